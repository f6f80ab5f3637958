"""The grid of a multirun: its jobs, and the folders they have; sweep.json, which lists them. Needs no torch."""

import hashlib
import itertools
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from mlplab.config.keys import CHOOSING, flat, kind_of
from mlplab.config.overrides import composed, parsed, values
from mlplab.errors import ConfigError
from mlplab.files import write_atomically
from mlplab.runs.folders import readable
from mlplab.runs.record import RESULT, Record, is_in_use

DONE = ("finished", "diverged")
"""Ends of a job that running it again would only repeat."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what was set for it, its folder, and how messages call it."""

    overrides: tuple[str, ...]
    folder: Path
    label: str

    def result(self) -> dict[str, Any]:
        """Its record; the status is finished, diverged, failed, stopped (also where killed), running, or missing."""
        if not (self.folder / RESULT).is_file():
            return {"status": "missing", "error": "never begun"}
        try:
            result = Record.read(self.folder).values
        except ConfigError as error:
            raise ConfigError(f"{error}; remove that folder to run the job again") from error
        killed = result.get("status") == "running" and not is_in_use(self.folder)
        return result | ({"status": "stopped"} if killed else {})


def with_params(config: DictConfig, given: Sequence[Override]) -> list[Override]:
    """The grid that a study brings, and what the command line gives, which wins."""
    params = parsed(f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items())
    return list({override.get_key_element(): override for override in [*params, *given]}.values())


def jobs_of(overrides: Sequence[Override], folder: Path) -> list[Job]:
    """Every combination of the values, the last key changing fastest. Jobs are called by what differs between them."""
    in_jobs = [one for one in overrides if not one.is_hydra_override() and one.key_or_group != "sweep"]
    grid = [list(values(override)) for override in in_jobs]
    varied = {line for lines in grid if len(set(lines)) > 1 for line in lines}
    return [
        Job(lines, folder / job_name(lines), " ".join(line for line in lines if line in varied) or " ".join(lines))
        for lines in dict.fromkeys(itertools.product(*grid))
    ]


def job_name(overrides: Sequence[str]) -> str:
    """The name of a job's folder: its overrides, shortened, and a digest of them and of the config they make.

    So a job is another one when its config has changed, unless its numbers cannot.
    """
    config = composed("train", overrides)
    config.folder = ""  # known only in a run
    plain: Any = OmegaConf.to_container(config, resolve=True)
    # Earlier versions left CHOOSING out of the digest; typed, they are among the overrides.
    numbers = {key: value for key, value in flat(plain).items() if kind_of(key) == "numbers" and key not in CHOOSING}
    exact = json.dumps([sorted(overrides), numbers], sort_keys=True)
    name = readable(line for line in overrides if line[:6] != "study=") or "default"
    return f"{name}_{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def write_sweep(folder: Path, jobs: Sequence[Job], study: Any) -> None:
    """Say in sweep.json what was asked for last; other jobs in the folder are left alone."""
    command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
    content = {"command": command, "jobs": [job.folder.name for job in jobs], "study": study}
    write_atomically(folder / "sweep.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
