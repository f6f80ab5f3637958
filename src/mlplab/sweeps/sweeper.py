"""Running a sweep: its missing jobs go to Hydra's launcher, end in their folders, and are stopped together."""

import contextlib
import functools
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from mlplab import signals
from mlplab.config.overrides import parsed
from mlplab.errors import ConfigError, RunFailed, first_line
from mlplab.files import lock
from mlplab.runs.record import LOCK, Record
from mlplab.signals import Stopped
from mlplab.sweeps.command_line import quoted
from mlplab.sweeps.grid import Job, jobs_of, launch_name, with_params, write_sweep
from mlplab.sweeps.job import run_job
from mlplab.sweeps.progress import SweepProgress, ending

STOP = ".stop"
"""A file that asks the processes of a sweep's jobs to stop; gone when the sweep is started again."""


class GridSweeper(Sweeper):
    """What Hydra calls for `train.py -m`: runs the jobs of a grid that are missing, failed or were stopped."""

    def __init__(self, params: DictConfig) -> None:
        """`params` are read from the config, with which `sweep` is called."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra has composed of all that the jobs share."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the jobs of these overrides, which are without fault, and write their report.

        Raises ConfigError, before anything is run, where another process runs the sweep, RunFailed where a job did not
        finish, Stopped at a signal.
        """
        name = launch_name()
        if self.config.sweep is None:
            self.config.sweep = name
        folder = Path(self.config.hydra.sweep.dir)
        jobs = jobs_of(with_params(self.config, parsed(arguments)), folder)
        study = self.config.get("study")
        faults = []
        with alone_in(folder), signals.caught():
            waiting = [job for job in jobs if not job.is_done() and job.status() != "running"]
            write_sweep(folder, jobs, study and OmegaConf.to_container(study))
            (folder / STOP).unlink(missing_ok=True)
            done = f", {len(jobs) - len(waiting)} of them done before" if len(waiting) < len(jobs) else ""
            print(f"{folder}: {len(jobs)} jobs{done}", flush=True)
            try:
                with SweepProgress(waiting, total=len(jobs)):
                    self.launch(waiting, folder)
            except Stopped as stop:
                ended = sum(job.is_done() for job in jobs)
                again = f"the same command with sweep={name}" if folder.name == name else "the same command"
                stop.advice = [f"{ended} of {len(jobs)} jobs are done; {again} continues the sweep"]
                raise
            except Exception as error:  # of the launcher: a process was killed, or a cluster refused a job
                faults = [f"{type(error).__name__}: {first_line(error)}"]
            if faults := [*faults, *report_on(folder, jobs), *unfinished(jobs)]:
                raise RunFailed("\n".join(faults))

    def launch(self, jobs: Sequence[Job], folder: Path) -> None:
        """Hand jobs to the launcher that `hydra/launcher=` chooses, and wait for them. Raises Stopped at a signal."""
        stop = folder.resolve() / STOP
        task = functools.partial(run_job, launched_by=os.getpid(), stop=stop)
        launcher = Plugins.instance().instantiate_launcher(self.hydra_context, task, self.config)
        of_hydra = [f"hydra.sweep.dir={quoted(folder)}", "hydra.job_logging.root.handlers=[file]"]
        lines = [[*job.overrides, *of_hydra, f"hydra.sweep.subdir='{job.folder.name}'"] for job in jobs]
        with signals.caught() if type(launcher).__name__ == "BasicLauncher" else jobs_told(stop):
            if jobs:
                launcher.launch(lines, initial_job_idx=0)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from running the same sweep. Raises ConfigError where one does already."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        if not lock(file):
            raise ConfigError(f"{folder} is being run by another process; wait for it, or stop it first")
        yield


@contextlib.contextmanager
def jobs_told(stop: Path) -> Iterator[None]:
    """At SIGINT and SIGTERM, tell the processes of the jobs to stop, wait for them, and raise Stopped.

    A second signal raises it at once.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise Stopped(number)
        stop.touch()

    with signals.caught():  # which brings the handlers back that were there
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)
        try:
            yield
        except Exception:
            if not received:
                raise
    if received:
        raise Stopped(received[0])


def report_on(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """Write and print the report; gives what went wrong, which must not hide what the jobs have done."""
    if all(job.status() == "missing" for job in jobs):
        return []
    from mlplab.report import show, write_report  # here, since they take a second to import

    try:
        show(write_report([folder], folder))
    except Exception as error:
        return [f"the report could not be written: {type(error).__name__}: {error}"]
    return []


def unfinished(jobs: Sequence[Job]) -> list[str]:
    """A line for each job that did not finish, after one that counts them."""
    lines = []
    for job in jobs:
        status = job.status()
        if status == "missing":
            lines.append(f"{job.label}: never begun ({job.folder})")
        elif status != "finished":
            lines.append(f"{job.label}: {ending(Record.read(job.folder).values | {'status': status})} ({job.folder})")
    return [f"{len(lines)} of {len(jobs)} jobs did not finish", *lines] if lines else []
