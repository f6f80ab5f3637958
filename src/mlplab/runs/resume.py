"""Which run to continue, and whether what is asked of it leaves its numbers as they would have been."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mlplab import cluster
from mlplab.config.keys import differing, flat, kind_of, require
from mlplab.config.overrides import composed
from mlplab.errors import ConfigError, noted
from mlplab.files import moved
from mlplab.runs.folders import RUNS, find_run
from mlplab.runs.record import Record

LONGER = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
"""Keys that make a run longer and change nothing of what it has done."""


def run_and_checkpoint(resume: str) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint if one was named, that `resume=` means."""
    require("resume", resume)
    path = find_run(resume)
    return (path.parent.parent, path) if path.suffix == ".ckpt" else (path, None)


def continued_config(folder: Path, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """The config to continue a run with, and the keys that differ from the config it had.

    Its own config, with what `overrides` change of it. Raises ConfigError that lists all changes that would change the
    numbers, or that come too late.
    """
    record = Record.read(folder)
    config = record.config()
    had_folder = str(config.get("folder", folder))  # it may have been moved since
    config = OmegaConf.create(moved(OmegaConf.to_container(config), had_folder, str(folder.resolve())))
    kept = [line for line in record.values.get("overrides", []) if not is_of_the_launch(line)]
    asked = [line for line in overrides if not is_of_the_launch(line) and line not in kept]
    changes: dict[str, Any] = {}
    if asked:
        configs: Any = [OmegaConf.to_container(composed("train", lines)) for lines in (kept, [*kept, *asked])]
        before, after = map(flat, configs)
        changes = {key: after.get(key) for key in differing([before, after])}
    had = {key: OmegaConf.select(config, key) for key in changes}
    changes = {key: value for key, value in changes.items() if had[key] != value}
    faults = [
        f"{key}: this run has {had[key]!r}, not {value!r}; start a new run to change it"
        for key, value in changes.items()
        if key not in LONGER and kind_of(key) == "numbers"
    ]
    faults += [
        f"{key}={changes[key]}: this run has {had[key]}, and can only become longer"
        for key in ("trainer.max_epochs", "trainer.max_steps")
        if isinstance(changes.get(key), int) and changes[key] >= 0 and not 0 <= had[key] <= changes[key]  # -1: no limit
    ]
    if any(key in changes for key in LONGER) and "early stopping" in str(record.values.get("stop_reason")):
        faults.append(f"{folder} ended by early stopping, so it does not become longer; start a new run")
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    with noted(faults):
        record.check(config)
    if faults:
        raise ConfigError(*faults)
    return config, changes


def is_of_the_launch(override: str) -> bool:
    """Whether an override says where and how to launch, not what to train; or sets what old runs could set."""
    others = ("name=", "resume=", "hydra.", "hydra/", "sweep=", "sweep_overwrite=", "trainer.num_sanity_val_steps=")
    return override.lstrip("+~").startswith(others)


def requeued_run(folder: Path | None, overrides: Sequence[str]) -> Path | None:
    """The unfinished run of this job, which SLURM or torchrun has started again; None where there is no such run.

    It is in `folder` where its launch has named one, else anywhere in outputs/train.
    """
    if not cluster.was_started_again():
        return None
    for path in [folder] if folder else sorted(RUNS.iterdir() if RUNS.is_dir() else ()):
        with contextlib.suppress(ConfigError):
            values = Record.read(path).values
            same = values.get("slurm_job") == cluster.slurm_job() and values.get("overrides") == list(overrides)
            if same and values.get("status") != "finished":
                return path
    return None
