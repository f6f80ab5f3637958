"""A sweep on disk: sweep.json and a folder for each job; what is done, and what is still to be run. Needs no torch."""

import hashlib
import json
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from mlplab.config.keys import flat as leaves
from mlplab.errors import ConfigError, first_line
from mlplab.files import now, write_atomically
from mlplab.runs.record import CONFIG, RESULT, Record, is_in_use

SWEEP = "sweep.json"
STOP = ".stop"
"""A file that asks the processes of a sweep's jobs to stop; gone when the sweep is started again."""
DONE = ("finished", "diverged")
"""Ends of a job that running it again would only repeat."""
NOT_COMPARED = ("folder", "resume", "sweep", "sweep_overwrite", "study")
"""Keys of a job's config that do not change its result."""
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast
MAX_NAMED = 4
"""How many jobs one error names; it counts the others."""


OmegaConf.register_new_resolver("short_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", lambda overrides: job_folder(overrides), replace=True)
OmegaConf.register_new_resolver("or", lambda value, other: value or other, replace=True)


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what was set for it, its folder, and how messages call it."""

    overrides: tuple[str, ...]
    folder: Path
    label: str

    def status(self) -> str:
        """finished, diverged, failed, stopped (also when its process was killed), running, or missing."""
        if not (self.folder / RESULT).is_file():
            return "missing"
        try:
            status = str(Record.read(self.folder).values.get("status"))
        except ConfigError as error:
            raise ConfigError(f"{error}; remove that folder to run the job again") from error
        return "stopped" if status == "running" and not is_in_use(self.folder) else status


@dataclass(frozen=True)
class Sweep:
    """The jobs of one multirun, in order. `overrides` are those of all jobs by key, `study` the study's text."""

    folder: Path
    jobs: Sequence[Job]
    overrides: dict[str, list[str]]
    study: dict[str, Any] | None

    def check(self, composed: Callable[[Sequence[str]], DictConfig]) -> None:
        """Raise ConfigError where the folder holds a sweep of other settings, or jobs of other configs.

        More values for a key are fine: they are further jobs. So are fewer: some of its jobs are left alone.
        """
        faults = self.grid_faults() or self.config_faults(composed)
        if faults:
            shown = faults[:MAX_NAMED]
            more = [f"… and {len(faults) - MAX_NAMED} more such jobs"] if len(faults) > MAX_NAMED else []
            way_out = "choose another sweep=…, or add sweep_overwrite=true to replace what is there"
            raise ConfigError(f"{self.folder} holds another sweep: {way_out}", *shown, *more)

    def grid_faults(self) -> list[str]:
        """One line for each key that an earlier launch into the same folder set to other values."""
        earlier = read_sweep(self.folder).get("grid")
        if earlier is None:
            return []
        keys = [*earlier, *(key for key in self.overrides if key not in earlier)]
        pairs = {key: (set(earlier.get(key, ())), set(self.overrides.get(key, ()))) for key in keys}
        return [
            f"{key}: it has {words(earlier.get(key))}, now {words(self.overrides.get(key))}"
            for key, (before, after) in pairs.items()
            if not before or not after or not (before <= after or after <= before)
        ]

    def config_faults(self, composed: Callable[[Sequence[str]], DictConfig]) -> list[str]:
        """One line for each job that was run, or begun, with another config than it would have now."""
        faults = []
        for job in self.jobs:
            if job.status() in (*DONE, "stopped") and (changed := self.changed(job, composed)):
                more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
                faults.append(f"{job.folder.name} was run with another config: {', '.join(changed[:2])}{more}")
        return faults

    def changed(self, job: Job, composed: Callable[[Sequence[str]], DictConfig]) -> list[str]:
        """What differs between the config a job was run with, and the one it would have now."""
        path = job.folder / CONFIG
        try:
            before = yaml.load(path.read_text(encoding="utf-8"), LOADER)
            assert isinstance(before, dict)
        except (OSError, ValueError, AssertionError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read: {first_line(error)}; remove that folder to go on") from error
        config = composed(job.overrides)
        OmegaConf.update(config, "folder", before.get("folder"))  # which other values refer to
        if config.get("seed") is None:
            OmegaConf.update(config, "seed", before.get("seed"))  # drawn when the job was run
        after = OmegaConf.to_container(config, resolve=True)
        assert isinstance(after, dict)
        return differences(before, after)

    def discard_other_jobs(self, composed: Callable[[Sequence[str]], DictConfig]) -> None:
        """Remove the jobs of an earlier sweep in the same folder, except those that this one would repeat."""
        kept = {job.folder.name: job for job in self.jobs}
        for name in read_sweep(self.folder).get("jobs", []):
            folder = self.folder / name
            if (folder / RESULT).is_file() and (name not in kept or self.changed(kept[name], composed)):
                shutil.rmtree(folder)
        (self.folder / SWEEP).unlink(missing_ok=True)

    def write(self) -> None:
        """Say in sweep.json what the sweep is; jobs and values of earlier launches stay in it."""
        earlier = read_sweep(self.folder)
        grid = earlier.get("grid", {})
        grid = {key: [*dict.fromkeys([*grid.get(key, ()), *lines])] for key, lines in self.overrides.items()}
        names = [*dict.fromkeys([*earlier.get("jobs", ()), *(job.folder.name for job in self.jobs)])]
        content = {
            "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
            "overrides": [word for word in sys.argv[1:] if not word.startswith("-")],
            "started": earlier.get("started", now()),
            "num_jobs": len(names),
            "jobs": names,
            "grid": grid,
            "study": self.study,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / SWEEP, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def make_sweep(
    folder: Path, overrides: dict[str, list[str]], study: dict[str, Any] | None, jobs: Sequence[Sequence[str]]
) -> Sweep:
    """The sweep of these overrides; jobs are called by what differs between them."""
    swept = {line for lines in overrides.values() if len(lines) > 1 for line in lines}
    return Sweep(
        folder,
        [
            Job(tuple(job), folder / job_folder(job), " ".join(line for line in job if line in swept) or " ".join(job))
            for job in jobs
        ],
        overrides,
        study,
    )


def job_folder(overrides: Sequence[str]) -> str:
    """A short, collision-free folder name for one job of a sweep, made of its overrides."""
    kept = sorted(override for override in overrides if not override.startswith(("hydra", "study=")))
    exact = ",".join(kept)
    name = re.sub(r"[^\w.=,+~()-]+", "-", exact.replace("[", "(").replace("]", ")")) or "default"
    changed = len(name) > 100 or "-" in name
    return f"{name[:90]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}" if changed else name


def read_sweep(folder: Path) -> dict[str, Any]:
    """The content of sweep.json, empty where there is none. Raises ConfigError when it is damaged."""
    path = folder / SWEEP
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; remove it to go on") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not describe a sweep; remove it to go on")
    return content


def differences(before: dict[Any, Any], after: dict[Any, Any]) -> list[str]:
    """One phrase for each dotted key of two configs with another value, as far as it counts for the result."""
    old, new = (
        dict(leaves({name: part for name, part in config.items() if name not in NOT_COMPARED}))
        for config in (before, after)
    )
    return [
        f"{key} was {old.get(key, 'absent')}, is {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    ]


def words(lines: Sequence[str] | None) -> str:
    """The values of some overrides of one key."""
    return ",".join(line.partition("=")[2] or line for line in lines) if lines else "nothing"
