"""What SLURM and torchrun say of this process, and what SLURM is asked: to start a job again, what is in its queue."""

import os
import re
import signal
from collections.abc import Iterable
from typing import NamedTuple

from mlplab.errors import ConfigError

INTERACTIVE = ("bash", "interactive")
"""Names of SLURM's jobs in which a person types; Lightning takes them for no part of SLURM."""
GONE = "gone"
"""The state of a job that SLURM no longer knows."""
TAKEN = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "TIMEOUT", "REQUEUE_FAIL", "LAUNCH_FAILED")
"""States of jobs that ended for reasons of the cluster's, not of their own."""
IN_QUEUE = (
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT",
    "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT",
)  # fmt: skip
"""States of jobs that will run, or do."""


# This process


def slurm_job() -> str | None:
    """SLURM's name of the job that this process belongs to."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if job else os.environ.get("SLURM_JOB_ID")


def was_started_again() -> bool:
    """Whether SLURM or torchrun has started this job before."""
    return any(int(os.environ.get(f"{name}_RESTART_COUNT") or 0) for name in ("SLURM", "TORCHELASTIC"))


def rank() -> int:
    """The number of this process among those that train one network."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def launch_of_several() -> str | None:
    """A name that all processes have in common which `srun` or `torchrun` has started together.

    None for a process that was started alone, "" where there is no such name.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        run_id = os.environ["TORCHELASTIC_RUN_ID"]
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        return ("" if run_id == "none" else f"torchrun_{run_id}") if several else None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
        return f"slurm_{slurm_job()}_{os.environ.get('SLURM_STEP_ID')}"
    return None


def check_processes(wanted: int) -> None:
    """Raise ConfigError where SLURM was told of another number of processes than the Trainer's."""
    tasks = os.environ.get("SLURM_NTASKS")
    if tasks is None or "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return
    if int(tasks) != wanted:
        raise ConfigError(
            f"trainer.devices × trainer.num_nodes are {wanted} processes, and this SLURM job has {tasks}: "
            "set #SBATCH --nodes=… --ntasks-per-node=…, or in a sweep hydra.launcher.nodes and .tasks_per_node"
        )
    if wanted > 1 and "SLURM_STEP_ID" not in os.environ:
        raise ConfigError(f"SLURM starts {wanted} processes only by srun: srun python train.py …")


def requeue(number: int) -> str | None:
    """Have SLURM start this job again where a signal says that it takes the machine away; says what becomes of it."""
    job = slurm_job()
    if job is None or rank() or number == signal.SIGINT or (number == signal.SIGTERM and not is_preempted()):
        return None
    refused = asked("scontrol", "requeue", job)[1]
    return f"SLURM does not start this job again: {refused}" if refused else f"SLURM starts job {job} again"


def is_preempted() -> bool:
    """Whether another job gets this one's machine; else SIGTERM is the wish of a person."""
    return bool(re.search(r"PreemptTime=\d", asked("scontrol", "show", "job", os.environ["SLURM_JOB_ID"])[0]))


# The queue


class Queued(NamedTuple):
    """A job as SLURM has it: its state, and why it waits."""

    state: str
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.state not in IN_QUEUE


def queued(jobs: Iterable[str]) -> dict[str, Queued] | None:
    """What SLURM's queue says of jobs such as "12_3"; None where it does not answer."""
    jobs = list(jobs)
    columns = ("--noheader", "--array", "--states=all", "--format=%i|%T|%r")
    told, refused = asked("squeue", "--me", *columns, f"--jobs={','.join(arrays_of(jobs))}")
    if refused and "Invalid job id" not in refused:
        return None
    rows = [line.split("|") for line in told.splitlines()]
    known = {job: Queued(state, reason) for job, state, reason in rows}
    return {job: known.get(job, Queued(GONE)) for job in jobs}


def cancel(jobs: Iterable[str], *options: str) -> None:
    """Take the arrays of these jobs out of the queue, or only what `options` of scancel select of them."""
    asked("scancel", *options, *arrays_of(jobs))


def arrays_of(jobs: Iterable[str]) -> list[str]:
    """The numbers of the arrays that jobs such as "12_3" belong to."""
    return list(dict.fromkeys(job.partition("_")[0] for job in jobs))


def largest_array() -> int:
    """How many jobs SLURM takes in one array."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", asked("scontrol", "show", "config")[0])
    return int(found[1]) if found else 1000


def asked(*command: str) -> tuple[str, str]:
    """What one of SLURM's commands says; and why it has failed, "" where it has not."""
    import subprocess  # here, since every program begins with importing this file

    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return "", f"{command[0]}: {error.strerror}"
    return done.stdout, " ".join(done.stderr.split()) or f"{command[0]} failed" if done.returncode else ""
