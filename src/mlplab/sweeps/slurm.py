"""A sweep's jobs on SLURM: submitit's launcher submits them as arrays, its queue is watched, what it took is repeated.

How a job ended is read in its folder, as for all launchers; what SLURM says of it only tells whether it still may end.
"""

import contextlib
import io
import json
import pickle
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton

from mlplab import cluster, signals
from mlplab.cluster import Queued
from mlplab.errors import ConfigError, first_line
from mlplab.files import write_atomically
from mlplab.signals import Stopped
from mlplab.sweeps.grid import DONE, Job
from mlplab.sweeps.progress import SweepProgress

NUMBERS = "slurm.json"
"""In the sweep's folder: job folder → SLURM's number of the job, for a command that is repeated while jobs run."""
POLL, SETTLE = 2, 5
"""Seconds between two looks at the queue, and until what a job has written last is seen on a shared disk."""


class SlurmJobs:
    """Jobs of a sweep in SLURM's queue, from their submission until none is left there.

    `launcher` is submitit's, `lines` gives a job's overrides for it. The file `stop` asks what runs to save and end.
    """

    def __init__(self, launcher: Any, lines: Any, *, folder: Path, stop: Path, progress: SweepProgress) -> None:
        self.launcher, self.lines, self.folder, self.stop, self.progress = launcher, lines, folder, stop, progress
        self.numbers: dict[Job, str] = {}  # of the jobs that are in the queue
        progress.going_on = self.numbers
        self.ended_at: dict[Job, float] = {}
        self.submissions, self.told = Counter[Job](), set[str]()

    def run(self, jobs: Sequence[Job]) -> None:
        """Submit jobs that are not in the queue yet, and wait until all have left it.

        Raises ConfigError where SLURM refuses all of them, Stopped at a second signal.
        """
        self.find(jobs)
        self.submit([job for job in jobs if job not in self.numbers])
        try:
            while self.numbers:
                if signals.pending() is not None:
                    self.end()
                self.look()
                time.sleep(POLL)
        except Stopped:
            cluster.cancel(self.numbers.values())
            raise

    def find(self, jobs: Sequence[Job]) -> None:
        """The jobs that an earlier command has submitted, and that are in the queue."""
        path = self.folder / NUMBERS
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        numbers = {job: earlier[job.folder.name] for job in jobs if job.folder.name in earlier}
        queue = cluster.queued(numbers.values()) or {} if numbers else {}
        self.numbers |= {job: number for job, number in numbers.items() if number in queue and not queue[number].ended}
        for job, number in self.numbers.items():
            self.progress.say(f"SLURM {number}  {job.label}  of an earlier command")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the queue, in arrays of equal size, and say which number each has."""
        if not jobs:
            return
        arrays = -(-len(jobs) // cluster.largest_array())
        for part in (jobs[number::arrays] for number in range(arrays)):
            self.submissions.update(part)
            try:
                numbers = self.array(part, at_once=max(1, self.launcher.params["array_parallelism"] // arrays))
            except RuntimeError as error:  # sbatch has failed
                reason = refusal(error)
                if not self.numbers:
                    raise ConfigError(
                        f"SLURM refuses these jobs: {reason}; see hydra.launcher in --cfg hydra"
                    ) from error
                self.say_once(f"SLURM takes no more jobs: {reason}; the same command submits what is left")
                return
            self.numbers |= numbers
            for job, number in numbers.items():
                self.progress.say(f"SLURM {number}  {job.label}  log: {job.folder / 'train.log'}")
        names = {job.folder.name: number for job, number in self.numbers.items()}
        write_atomically(self.folder / NUMBERS, json.dumps(names, indent=1) + "\n")

    def array(self, jobs: Sequence[Job], *, at_once: int) -> dict[Job, str]:
        """Submit one array; gives SLURM's numbers of its jobs."""
        import submitit  # here, since only sweeps on SLURM need them
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

        options = self.launcher.params | {"array_parallelism": at_once}
        executor = submitit.AutoExecutor(
            cluster="slurm",
            folder=options.pop("submitit_folder"),
            slurm_max_num_timeout=options.pop("max_num_timeout"),
        )
        shared = {field.name for field in fields(BaseQueueConf)}
        executor.update_parameters(
            **{key if key in shared else f"slurm_{key}": value for key, value in options.items()}
        )
        lines, count = [self.lines(job) for job in jobs], len(jobs)
        launcher: Any = Pickled(self.launcher)
        state = [Pickled(Singleton.get_state())] * count
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints there what sbatch says, and raises it
            submitted = executor.map_array(launcher, lines, ["hydra.sweep.dir"] * count, range(count), lines, state)
        return dict(zip(jobs, (one.job_id for one in submitted), strict=True))

    def look(self) -> None:
        """Note what has left the queue, submit again what the cluster took, and say what the others wait for."""
        queue = cluster.queued(self.numbers.values())
        if queue is None:
            self.say_once("SLURM does not answer; it is asked again")
            return
        taken = []
        for job, number in list(self.numbers.items()):
            if queue[number].ended and self.has_settled(job):
                if self.is_to_be_repeated(job, number, queue[number]):
                    taken.append(job)
                else:
                    del self.numbers[job]
        self.submit(taken)
        states = Counter("run" if one.state != "PENDING" else "wait" for one in queue.values() if not one.ended)
        reasons = sorted({one.reason for one in queue.values() if one.state == "PENDING"} - {"None"})
        self.progress.note = "  ".join([*(f"{count} {state}" for state, count in states.items()), *reasons])
        for reason in reasons:
            self.say_once(f"jobs wait in SLURM's queue: {reason}")

    def has_settled(self, job: Job) -> bool:
        """Whether the folder of a job that has left the queue says how it ended, or will not any more."""
        ended_at = self.ended_at.setdefault(job, time.monotonic())
        return job.result()["status"] in (*DONE, "failed") or time.monotonic() - ended_at > SETTLE

    def is_to_be_repeated(self, job: Job, number: str, end: Queued) -> bool:
        """Whether a job that has left the queue ended for the cluster's reasons; says so where it has not finished."""
        del self.ended_at[job]
        status = job.result()["status"]
        if status in (*DONE, "failed") or self.stop.exists():
            return False
        again = end.state in cluster.TAKEN and self.submissions[job] <= self.launcher.params["max_num_timeout"]
        log = Path(self.launcher.params["submitit_folder"].replace("%j", number), f"{number}_0_log.err")
        unseen = "; its node has written nothing: does it see this folder?" if end.state == "FAILED" else ""
        outcome = "submitted again" if again else status + (f"; see {log}" if log.exists() else unseen)
        self.progress.say(f"SLURM {number}  {job.label}  {end.state}: {outcome}")
        return again

    def end(self) -> None:
        """Take out of the queue what waits, and ask what runs to save and end."""
        if not self.stop.exists():
            self.stop.touch()
            self.progress.say(
                "stopping: what waits in SLURM's queue is cancelled, what runs saves and ends; again: at once"
            )
        cluster.cancel(self.numbers.values(), "--state=PENDING")

    def say_once(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.progress.say(text)


class Pickled:
    """A large object that many jobs have in common: pickled once, and itself again in a job."""

    def __init__(self, content: Any) -> None:
        import cloudpickle  # here, since it comes with submitit

        self.content = cloudpickle.dumps(content)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.content,)


def check_slurm() -> None:
    """Raise ConfigError where jobs cannot be submitted from this machine."""
    if not shutil.which("sbatch"):
        raise ConfigError(
            "hydra/launcher=slurm: no sbatch here; start the sweep where SLURM is, or without that launcher"
        )


def refusal(error: Exception) -> str:
    """What sbatch says of jobs that it does not take."""
    found = re.search(r"sbatch: error: Batch job submission failed: (.*)", str(error))
    return found[1].rstrip(".") if found else first_line(error)
