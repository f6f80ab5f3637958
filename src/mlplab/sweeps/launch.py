"""A sweep from Python: the command line's, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mlplab.config.check import CONF
from mlplab.errors import ConfigError, RunFailed
from mlplab.runs.folders import launch_name

SWEEPS = Path("outputs/sweeps")


class Sweep(NamedTuple):
    """A finished sweep: its folder, with `report.html`, and its summary, a row for each run."""

    folder: Path
    summary: pd.DataFrame


def sweep(*overrides: str, name: str | None = None) -> Sweep:
    """Run every combination of the values, as `python train.py -m` does, and show how the jobs end.

    `sweep("model=mlp,mlp_dropout", "seed=range(3)", name="dropout")` writes outputs/sweeps/dropout; the same call again
    does what is left of it. Raises ConfigError for what is wrong with the overrides, RunFailed where a job failed.
    """
    name = name or launch_name()
    command = [sys.executable, str(CONF.parent / "train.py"), "-m", *overrides, f"sweep={name}"]
    faults = []
    options: dict[str, Any] = {"encoding": "utf-8", "env": os.environ | {"PYTHONIOENCODING": "utf-8"}}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as job:
        for line in job.stdout or ():
            if line.startswith("error: "):
                faults.append(line.removeprefix("error: ").rstrip())
            else:
                print(line, end="", flush=True)
    if job.returncode:
        raise ConfigError(*faults) if job.returncode == 2 else RunFailed("\n".join(faults))
    return Sweep(SWEEPS / name, pd.read_csv(SWEEPS / name / "summary.csv"))
