"""Which run to continue, and whether what is asked of it leaves its numbers as they would have been."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mlplab.config.check import config_faults, section_faults
from mlplab.config.rules import PATH
from mlplab.errors import ConfigError
from mlplab.runs.record import RESULT, Record

LONGER = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
"""Keys that make a run longer and change nothing of what it has done."""

HARMLESS = (
    "steps_per_execution", "test", "data.num_workers", "checkpoint.every_n_epochs", "checkpoint.every_n_updates",
    "checkpoint.every_n_minutes", "checkpoint.max_share", "trainer.enable_progress_bar",
)  # fmt: skip
"""Keys that change how a run is computed and watched, not what comes out."""

Compose = Callable[[list[str]], DictConfig]
"""Overrides → config."""


def run_and_checkpoint(resume: str) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint if one was named, that `resume=` means."""
    PATH.require("resume", resume)
    path = Path(resume)
    return (path.parent.parent, path) if path.suffix == ".ckpt" else (path, None)


def continued_config(folder: Path, overrides: Sequence[str], compose: Compose) -> tuple[DictConfig, dict[str, Any]]:
    """The config to continue a run with, and the keys that differ from the config it had.

    Its own config, with what `overrides` change of it. Raises ConfigError that lists all changes that would change the
    numbers, or that come too late.
    """
    record = Record.read(folder)
    config = rebased(record.config(), folder)
    kept = [line for line in record.values.get("overrides", []) if not is_of_the_launch(line)]
    asked = [line for line in overrides if not is_of_the_launch(line)]
    changes = differences(compose(kept), compose([*kept, *asked])) if asked else {}
    changes = {key: value for key, value in changes.items() if OmegaConf.select(config, key) != value}
    faults = [
        f"{key}: this run has {OmegaConf.select(config, key)!r}, not {value!r}; start a new run to change it"
        for key, value in changes.items()
        if key not in LONGER + HARMLESS
    ]
    faults += [
        f"{key}={changes[key]}: this run has {OmegaConf.select(config, key)}, and can only become longer"
        for key in ("trainer.max_epochs", "trainer.max_steps")
        if 0 <= changes.get(key, -1) < OmegaConf.select(config, key)
    ]
    if any(key in changes for key in LONGER) and "early stopping" in str(record.values.get("stop_reason")):
        faults.append(f"{folder} ended by early stopping, so it does not become longer; start a new run")
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    faults += [f"{folder}/config.yaml: {fault}" for fault in section_faults(config) or config_faults(config)]
    if faults:
        raise ConfigError(*faults)
    return config, changes


def is_of_the_launch(override: str) -> bool:
    """Whether an override says where and how to launch, not what to train."""
    return override.lstrip("+~").startswith(("resume=", "hydra.", "hydra/", "sweep=", "sweep_overwrite="))


def rebased(config: DictConfig, folder: Path) -> DictConfig:
    """A run's config with its paths below `folder`, where the run may have been moved to."""
    old, new = str(config.get("folder", folder)), str(folder.resolve())

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [moved(item) for item in value]
        if isinstance(value, str) and (value == old or value.startswith(old + os.sep)):
            return new + value[len(old) :]
        return value

    return OmegaConf.create(moved(OmegaConf.to_container(config)))


def differences(before: DictConfig, after: DictConfig) -> dict[str, Any]:
    """Dotted keys whose values differ, with the later values; a key that is gone has None."""
    old, new = dict(leaves(plain(before))), dict(leaves(plain(after)))
    return {key: new.get(key) for key in {**old, **new} if old.get(key) != new.get(key) or (key in old) != (key in new)}


def plain(config: DictConfig) -> Any:
    """As a dict, with what is only known in a run left as it is written."""
    return OmegaConf.to_container(config, resolve=False)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def with_changes(record: Record, config: DictConfig, changes: Sequence[str]) -> list[str]:
    """The overrides that would make this run anew, now that it is longer."""
    kept = [line for line in record.values.get("overrides", []) if line.partition("=")[0] not in changes]
    return kept + [f"{key}={OmegaConf.select(config, key)}" for key in changes]


def requeued_run(parent: Path, overrides: Sequence[str]) -> Path | None:
    """The unfinished run that SLURM has started again with this process, None where there is no such run."""
    if not int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0):
        return None
    for path in sorted(parent.glob(f"*/{RESULT}")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        same = values.get("slurm_job") == slurm_job() and values.get("overrides") == list(overrides)
        if same and values.get("status") != "finished":
            return path.parent
    return None


def slurm_job() -> str | None:
    """SLURM's name of the job that this process belongs to."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if job else os.environ.get("SLURM_JOB_ID")
