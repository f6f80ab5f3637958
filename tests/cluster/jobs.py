"""Commands of ours and of SLURM, and what they left."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mlplab.config.check import CONF

ROOT = CONF.parent
SCRIPTS = ROOT / "scripts" / "cluster"
BARE = ("data.num_samples=200", "data.batch_size=2", "callbacks=none", "logger=none", "figures=none", "test=false")
LONG = (*BARE, "trainer=cpu", "trainer.max_epochs=150", "steps_per_execution=1", "checkpoint.every_n_minutes=0.05")
"""A run of some ten seconds, of which a checkpoint is there after three."""


def sh(*command: str, code: int | None = 0) -> str:
    """Run a command; gives what it says. The exit code must be `code`, None for any."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert code is None or done.returncode == code, done.stdout
    return done.stdout


def wait_for(condition: Callable[[], Any], *, seconds: float = 300) -> Any:
    """Wait until something is true, and give it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.3)
    return found


class Program(NamedTuple):
    """A command of ours that runs, and where its output goes."""

    process: subprocess.Popen
    output: Path

    def end(self, *, code: int = 0, seconds: float = 900) -> str:
        """Wait for its end, which must have this exit code; gives what it said."""
        assert self.process.wait(timeout=seconds) == code, self.output.read_text()
        return self.output.read_text()

    def says(self, text: str, *, seconds: float = 300) -> None:
        wait_for(lambda: text in self.output.read_text() or self.process.poll() is not None, seconds=seconds)
        assert text in self.output.read_text()


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / script), *arguments]


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "HYDRA_", "SLURM_"))}


def state(job: str) -> str:
    """SLURM's state of a job."""
    return sh("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}").strip()


def hurry(job: str) -> None:
    """Let a job that SLURM starts again begin soon, not after the two minutes that it waits by itself.

    A few seconds it must wait: a node refuses a job that it has ended in the same second.
    """
    told = False

    def runs() -> bool:
        nonlocal told
        known = sh("scontrol", "show", "job", job, code=None)
        if "JobState=PENDING" in known and not told:
            sh("scontrol", "update", f"jobid={job}", "starttime=now+4", code=None)
            told = "Reason=BeginTime" in sh("scontrol", "show", "job", job, code=None)
        if "eld" in known.partition("Reason=")[2].partition(" ")[0]:  # where it was to start before its node was ready
            sh("scontrol", "release", job, code=None)
        return state(job) in ("RUNNING", "COMPLETED")

    wait_for(runs)


def was_started_again(job: str) -> bool:
    return not re.search(r"Restarts=0\b", sh("scontrol", "show", "job", job))


def fail_node(job: str) -> None:
    """Let the first node that a job runs on fail, and come back once nothing of the job is left on it."""
    nodes, number = sh("squeue", "--noheader", "--format=%N %A", f"--jobs={job}").split()
    node = sh("scontrol", "show", "hostnames", nodes).split()[0]
    sh("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_for(lambda: not sh("pgrep", "-f", rf"slurmstepd: \[{number}\.", code=None))
    sh("scontrol", "update", f"nodename={node}", "state=resume", code=None)  # if it has not by itself


def preempt(job: str) -> None:
    """Let another job take the place of all that run, those of the partition low after their time of grace."""
    options = ("--partition=high", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 3")
    other = sh("sbatch", "--parsable", *options).strip()
    wait_for(lambda: state(other) == "COMPLETED")


def results(folder: Path, name: str = "weights_digest") -> dict[str, Any]:
    """A fact of each run below a folder."""
    found = sorted(folder.rglob("result.json"))
    return {path.parent.name: json.loads(path.read_text()).get(name) for path in found}


def saved(folder: Path) -> bool:
    """Whether a run below a folder has a checkpoint, and trains on."""
    return any(folder.rglob("last.ckpt")) and "running" in results(folder, "status").values()
