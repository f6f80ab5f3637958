"""Running a sweep: its missing jobs go to Hydra's launcher, end in their folders, and are stopped together.

A job is run in whatever process the launcher has for it: begun, continued or left alone.
"""

import contextlib
import copy
import functools
import hashlib
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from mlplab import cluster, signals
from mlplab.config.overrides import apply, is_choice, parsed, quoted
from mlplab.config.targets import raised
from mlplab.errors import ConfigError, RunFailed, first_line
from mlplab.runs.folders import launch_name
from mlplab.runs.record import Record
from mlplab.signals import Stopped
from mlplab.sweeps.grid import DONE, Job, jobs_of, with_params, write_sweep
from mlplab.sweeps.progress import SweepProgress, ending, looking
from mlplab.sweeps.slurm import SlurmJobs, check_slurm

STOP = ".stop"
"""A file that asks the processes of a sweep's jobs to stop; gone when the sweep is started again."""
LOG = "train.log"

log = logging.getLogger(__name__)


class GridSweeper(Sweeper):
    """What Hydra calls for `train.py -m`: runs the jobs of a grid that are missing, failed or were stopped."""

    def __init__(self, params: DictConfig) -> None:
        """`params` are read from the config, with which `sweep` is called."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra has composed of all that the jobs share."""
        self.context, self.shared = hydra_context, config
        self.launcher = config.hydra.launcher._target_.rpartition(".")[2]

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the jobs of these overrides, which are without fault, and write their report.

        Raises ConfigError, before anything is run, where another process runs the sweep, RunFailed where a job did not
        finish, Stopped at a signal.
        """
        name = launch_name()
        if job := cluster.slurm_job():  # which finds its sweep when it is started again
            name = f"slurm_{job}_{hashlib.sha256(' '.join(arguments).encode()).hexdigest()[:4]}"
        if self.shared.sweep is None:
            self.shared.sweep = name
        folder = Path(self.shared.hydra.sweep.dir)
        jobs = jobs_of(with_params(self.shared, parsed(arguments)), folder)
        again = f"the same command with sweep={name}" if folder.name == name else "the same command"
        if self.launcher == "SlurmLauncher":
            check_slurm()
        if self.launcher == "BasicLauncher" and any(job.result()["status"] not in DONE for job in jobs):
            import mlplab.runs.train  # noqa: F401  before anything is written, since it may be interrupted
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        record = Record(folder, {})
        record.lock()
        try:
            with signals.caught():
                self.run(jobs, folder)
        except Stopped as stop:
            ended = sum(job.result()["status"] in DONE for job in jobs)
            stop.advice = [f"{ended} of {len(jobs)} jobs are done; {again} continues the sweep"]
            raise
        except ConfigError:
            if is_new and not any(job.folder.exists() for job in jobs):  # nothing was run
                shutil.rmtree(folder)
            raise
        finally:
            record.release()

    def run(self, jobs: Sequence[Job], folder: Path) -> None:
        """Run what is left of the jobs, show how they end, and write the report. Raises as `sweep` does."""
        waiting = [job for job in jobs if job.result()["status"] not in DONE]
        study = self.shared.get("study")
        write_sweep(folder, jobs, study and OmegaConf.to_container(study))
        (folder / STOP).unlink(missing_ok=True)
        done = f", {len(jobs) - len(waiting)} of them done before" if len(waiting) < len(jobs) else ""
        print(f"{folder}: {len(jobs)} jobs{done}", flush=True)
        faults = []
        try:
            with (progress := SweepProgress(waiting, total=len(jobs))).shown():
                if waiting:
                    self.launch(waiting, folder, progress)
        except ConfigError:
            raise
        except Exception as error:  # of the launcher: a process was killed, or a cluster refused a job
            faults = [f"{type(error).__name__}: {first_line(error)}"]
        if faults := [*faults, *unfinished(jobs), *report_on(folder)]:
            raise RunFailed("\n".join(faults))

    def launch(self, jobs: Sequence[Job], folder: Path, progress: SweepProgress) -> None:
        """Hand jobs to the launcher that `hydra/launcher=` chooses, and wait for them. Raises Stopped at a signal."""
        stop = folder.resolve() / STOP
        task = functools.partial(run_job, launched_by=os.getpid(), stop=stop)
        loader: Any = ComposedOnce(self.context.config_loader)
        context = HydraContext(config_loader=loader, callbacks=self.context.callbacks)
        launcher = Plugins.instance().instantiate_launcher(context, task, self.shared)
        of_hydra = [f"hydra.sweep.dir={quoted(folder)}", "hydra.job_logging.root.handlers=[file]"]

        def lines(job: Job) -> list[str]:
            return [*job.overrides, *of_hydra, f"hydra.sweep.subdir='{job.folder.name}'"]

        if self.launcher == "BasicLauncher":
            launcher.launch([lines(job) for job in jobs], initial_job_idx=0)
            return

        def tell() -> bool:
            if signals.pending() is not None:
                stop.touch()
            return stop.exists()

        signals.wait()  # a first signal is only noted, so that jobs in other processes end in good order
        try:
            if self.launcher == "SlurmLauncher":
                SlurmJobs(launcher, lines, folder=folder, stop=stop, progress=progress).run(jobs)
                return
            with looking(tell):
                launcher.launch([lines(job) for job in jobs], initial_job_idx=0)
        finally:
            signals.wait(False)
            if (number := signals.pending()) is not None:
                raise Stopped(number)


class ComposedOnce:
    """Hydra's loader, which reads the files of choices once for all jobs that differ in plain values only."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.known = loader, dict[tuple[str, ...], DictConfig]()

    def load_sweep_config(self, shared: DictConfig, lines: Sequence[str]) -> DictConfig:
        """The config of a job, as Hydra composes it."""
        overrides = parsed(lines)
        values = [one for one in overrides if one.key_or_group == "hydra.sweep.subdir" or not is_choice(one)]
        choices = tuple(str(one.input_line) for one in overrides if one not in values)
        if choices not in self.known:
            self.known[choices] = self.loader.load_sweep_config(shared, list(choices))
        config = copy.deepcopy(self.known[choices])
        for one in values:
            apply(config, one)
            if one.is_hydra_override():
                config.hydra.overrides.hydra.append(str(one.input_line))
        in_job = [str(one.input_line) for one in overrides if not one.is_hydra_override()]
        config.hydra.overrides.task, config.hydra.job.override_dirname = in_job, ",".join(sorted(in_job))
        return config


def unfinished(jobs: Sequence[Job]) -> list[str]:
    """A line for each job that did not finish, or whose record is damaged, after one that counts them."""
    lines = []
    for job in jobs:
        try:
            if (end := job.result())["status"] != "finished":
                lines.append(f"{job.label}: {ending(end)[0]} ({job.folder})")
        except ConfigError as error:
            lines.append(f"{job.label}: {error}")
    return [f"{len(lines)} of {len(jobs)} jobs did not finish", *lines] if lines else []


def report_on(folder: Path) -> list[str]:
    """Write and print the report; gives what went wrong, which must not hide what the jobs have done."""
    from mlplab.report.report import show, write_report  # here, since they take a second to import

    try:
        show(write_report([folder], folder))
    except Exception as error:
        return [f"the report could not be written: {type(error).__name__}: {first_line(error)}"]
    return []


# One job


def run_job(config: DictConfig, *, launched_by: int, stop: Path) -> None:
    """Run one job of a sweep; its folder says how it ended, also where it never began. Its output goes to train.log.

    `launched_by` is the process of the sweep, and the file `stop` its wish that others end their jobs.
    """
    if stop.exists():
        return
    folder, is_here = Path(config.folder), os.getpid() == launched_by
    by_slurm = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
    with (
        (folder / LOG).open("a", encoding="utf-8", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        contextlib.nullcontext() if is_here else stopped_with_the_sweep(stop),
    ):
        try:
            begin_or_continue(config, folder)
        except Stopped as end:
            if is_here:
                raise  # ends the sweep, which for other processes `stop` does
            if by_slurm and not stop.exists():  # it takes the machine away, and is to see that the job has not finished
                print(*end.last_words(), sep="\n")
                sys.exit(end.exit_code)
        except Exception as error:
            if cluster.rank():
                raise  # what the first of several processes says of it counts
            note_failure(folder, config, error)


def begin_or_continue(config: DictConfig, folder: Path) -> None:
    """Do what is left of a job: all of it, or the rest of one that was stopped, or nothing."""
    from mlplab.runs.train import resume, train  # here, since a sweep is checked before torch is loaded

    job, is_first = Job((), folder, ""), not cluster.rank()
    while (status := job.result()["status"]) == "running" and is_first:
        time.sleep(1)  # another process does it: one of an earlier command, or of a machine that is given up
    if status in ("stopped", "running"):
        resume(folder)
    elif status in ("missing", "failed"):
        for path in folder.iterdir() if is_first else ():
            if path.name != LOG:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        train(config)


def note_failure(folder: Path, config: DictConfig, error: Exception) -> None:
    """Say in the job's folder why it failed, where the run has not done so."""
    log.error(str(error), exc_info=not isinstance(error, ConfigError | RunFailed))
    try:
        record = Record.read(folder)
    except ConfigError:
        overrides = list(HydraConfig.get().overrides.task)
        record = Record(folder, {"overrides": overrides, "seed": config.get("seed"), "metrics": {}})
    status = record.values.get("status")
    if status in ("failed", "diverged"):
        return
    with contextlib.suppress(ConfigError):  # where another process has the lock, which says how the job ends
        record.lock()
        # A stopped run that is refused, for example since its data are gone, can be continued once they are back.
        refused = isinstance(error, ConfigError) and status in ("stopped", "running")
        record.update(status="stopped" if refused else "failed", error=raised(error))
        record.release()


@contextlib.contextmanager
def stopped_with_the_sweep(stop: Path) -> Iterator[None]:
    """In a process of its own: end the job, in good order, once there is the file `stop`."""

    def obey() -> bool:
        if stop.exists() and signals.pending() is None:  # else the terminal's Ctrl-C has come here by itself
            os.kill(os.getpid(), signal.SIGTERM)
        return stop.exists()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between two jobs
    with signals.caught(), looking(obey):
        yield
