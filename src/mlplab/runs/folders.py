"""Names of run folders: given by a person, by what was typed, or by the time; and found again."""

import itertools
import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from mlplab import cluster
from mlplab.config.keys import kind_of
from mlplab.errors import ConfigError, did_you_mean
from mlplab.runs.record import CHECKPOINTS, CONFIG, RESULT

RUNS = Path("outputs/train")


def launch_name() -> str:
    """The time, with a short id that tells apart what starts in the same second."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"


def readable(overrides: Iterable[str]) -> str:
    """Overrides as the name of a folder: without the sections of their keys, and not too long."""
    short = (re.sub(r"^[+~]*[\w./]+\.(?=[^=]*=)", "", line) for line in sorted(overrides))
    return re.sub(r"[^\w.+]+", "-", "_".join(short), flags=re.ASCII)[:80].strip("-")


def new_folder(name: str | None, overrides: Iterable[str] = ()) -> str:
    """The folder of a new run: its name, with a number where there is such a run.

    Without a name it is called by the overrides that decide its numbers, with a short id; without these by the time.
    Processes that were started together have one folder, which their job's number names.
    """
    if job := cluster.launch_of_several():
        return str(RUNS / "_".join(filter(None, [name, job])))
    typed = readable(line for line in overrides if kind_of(line.lstrip("+~").partition("=")[0]) == "numbers")

    def names() -> Iterator[str]:
        if name:
            yield from itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        while True:
            yield f"{typed}_{secrets.token_hex(2)}" if typed else launch_name()

    return next(str(RUNS / one) for one in names() if not (RUNS / one).exists())


OmegaConf.register_new_resolver("run_folder", new_folder, use_cache=True, replace=True)  # for conf/hydra/default.yaml


def find_run(run: str | Path) -> Path:
    """The folder of a run: a path, a name, or "last" for the one that was trained last.

    Raises ConfigError where there is none.
    """
    if not isinstance(run, str | Path):
        raise ConfigError(f"run must be one run, got {list(run)}; scripts/report.py compares several")
    path, there = Path(run), {found.parent.name: found for found in RUNS.glob(f"*/{RESULT}")}
    if len(path.parts) != 1 or (path / RESULT).is_file():
        return path
    if run == "last" and there:
        return max((found.parent for found in there.values()), key=trained_at)
    if str(run) in there:
        return RUNS / run
    if path.exists():
        return path
    if not there:
        raise ConfigError(f"no run {run}: there are no runs in {RUNS} yet; python train.py makes one")
    raise ConfigError(f"no run {run} in {RUNS}{did_you_mean(str(run), there)}; there are {len(there)}, and last")


def trained_at(folder: Path) -> int:
    """When training wrote into a run folder last, in ns. An evaluation, which writes result.json, does not count."""
    written = [path for path in (folder / CONFIG, folder / CHECKPOINTS / "last.ckpt") if path.exists()]
    return max((path.stat().st_mtime_ns for path in written), default=0)


def short_path(path: Path, below: Path | None = None) -> Path:
    """The path relative to a folder that holds it, by default the current one, else as it is."""
    inner, outer = path.absolute(), (below or Path()).absolute()
    return inner.relative_to(outer) if inner.is_relative_to(outer) else path
