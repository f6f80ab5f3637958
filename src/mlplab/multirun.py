"""Running a sweep: its missing jobs go to Hydra's launcher, end in their folders, and are stopped together."""

import contextlib
import functools
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from mlplab import signals
from mlplab.checks import ConfigError, RunFailed, first_line
from mlplab.command_line import Grid, composed, job_folder
from mlplab.record import LOCK, Record, lock
from mlplab.rules import CONF, select
from mlplab.signals import Stopped
from mlplab.sweep_progress import SweepProgress, ending
from mlplab.sweeps import DONE, STOP, Job, Sweep, make_sweep

log = logging.getLogger(__name__)

LOG = "train.log"
SECONDS_BETWEEN_LOOKS = 0.5


def run_sweep(config_name: str, grid: Grid, function: Callable[[DictConfig], Any]) -> int:
    """Run what is missing of a sweep, failed or was stopped; gives the exit code.

    Raises ConfigError, before anything is run, where the sweep's folder holds another sweep or is in use.
    """
    with initialize_config_dir(str(CONF), job_name=config_name, version_base="1.3"), alone_in(grid.folder):
        compose, jobs = functools.partial(composed, config_name), list(grid.jobs())
        sweep = make_sweep(grid.folder, grid.overrides, grid.study, jobs=jobs, job_folder=job_folder)
        if grid.overwrite:
            sweep.discard_other_jobs(compose)
        sweep.check(compose)
        waiting = [job for job in sweep.jobs if job.status() not in (*DONE, "running")]
        sweep.write()
        (sweep.folder / STOP).unlink(missing_ok=True)
        done = len(sweep.jobs) - len(waiting)
        print(f"{sweep.folder}: {len(sweep.jobs)} jobs" + (f", {done} of them done before" if done else ""), flush=True)
        if waiting:
            try:
                with SweepProgress(waiting, total=len(sweep.jobs)):
                    launch(config_name, grid, sweep.folder, waiting, function)
            except Stopped as stop:
                ended = sum(job.status() in DONE for job in sweep.jobs)
                print(f"{stop}: {ended} of {len(sweep.jobs)} jobs are done; the same command continues the sweep")
                return stop.exit_code
            except Exception as error:  # of the launcher: a process of its own was killed, or a cluster refused a job
                print(f"error: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        return conclude(sweep, anything_new=bool(waiting))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from running the same sweep. Raises ConfigError where one does already."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        if not lock(file):
            raise ConfigError(f"{folder} is being run by another process; wait for it, or stop it first")
        yield


def launch(
    config_name: str, grid: Grid, folder: Path, jobs: Sequence[Job], function: Callable[[DictConfig], Any]
) -> None:  # fmt: skip
    """Hand jobs to the launcher that `hydra/launcher=` chooses, and wait for them. Raises Stopped at a signal."""
    escaped = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    fixed = [lines[0] for lines in grid.overrides.values() if len(lines) == 1]
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    config = hydra.compose_config(
        config_name, [*fixed, *grid.launch, f"hydra.sweep.dir='{escaped}'", "hydra.mode=MULTIRUN"], RunMode.MULTIRUN
    )  # fmt: skip
    at_once = jobs_at_once(config.hydra.launcher, len(jobs))
    if at_once > 1:  # read by every new process, so that together they use each core once
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    launcher = Plugins.instance().instantiate_launcher(
        HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config)),
        functools.partial(run_job, function=function, launched_by=os.getpid(), stop=folder.resolve() / STOP),
        config,
    )
    with signals.caught() if at_once == 1 else jobs_told(folder / STOP):
        launcher.launch([list(job.overrides) for job in jobs], initial_job_idx=0)


def jobs_at_once(launcher: DictConfig, num_jobs: int) -> int:
    """How many jobs this machine runs at the same time; 0 where it runs none, but a cluster does."""
    name = str(launcher.get("_target_")).rpartition(".")[2]
    if name == "JoblibLauncher":
        workers = int(launcher.n_jobs)
        return min(num_jobs, workers if workers > 0 else max(1, (os.cpu_count() or 1) + 1 + workers))
    return {"SlurmLauncher": 0, "LocalLauncher": num_jobs}.get(name, 1)


def conclude(sweep: Sweep, *, anything_new: bool) -> int:
    """Name what failed, and write the report; gives the exit code."""
    ends = {job: job.status() for job in sweep.jobs}
    reported = not anything_new or write_report(sweep.folder)
    failed = {job: status for job, status in ends.items() if status != "finished"}
    if failed:
        sys.stdout.flush()
        print(f"error: {len(failed)} of {len(ends)} jobs did not finish", file=sys.stderr)
    for job, status in failed.items():
        said = "never begun" if status == "missing" else ending(Record.read(job.folder).values | {"status": status})
        print(f"error: {job.label}: {said} ({job.folder})", file=sys.stderr)
    return 1 if failed or not reported else 0


def write_report(folder: Path) -> bool:
    """Compare the jobs; whether that worked. A report that fails must not hide what the jobs have done."""
    from mlplab import report  # takes seconds to import

    try:
        report.show(report.write_report([folder], folder))
    except Exception as error:
        log.error("error: the report could not be written (%s: %s)", type(error).__name__, error)
        return False
    return True


# In the process of a job


def run_job(config: DictConfig, *, function: Callable[[DictConfig], Any], launched_by: int, stop: Path) -> None:
    """Run one job of a sweep; its folder says how it ended, also where it never began. Its output goes to train.log."""
    if stop.exists():
        return
    folder, in_child = Path(config.folder), os.getpid() != launched_by
    with output_to(folder / LOG), stopped_with_the_sweep(stop, launched_by) if in_child else contextlib.nullcontext():
        try:
            begin_or_continue(function, config, folder)
        except Stopped:
            if not in_child:
                raise  # ends the sweep, which for a process of its own the file `stop` does
        except Exception as error:
            note_failure(folder, config, error)


def begin_or_continue(function: Callable[[DictConfig], Any], config: DictConfig, folder: Path) -> None:
    """Do what is left of a job: all of it, or the rest of one that was stopped, or nothing."""
    status = Job((), folder, "").status()
    if status == "stopped":
        from mlplab.training import resume  # here, so that a sweep with nothing left to do need not wait for torch

        if select(config, "trainer.strategy", "auto") != "auto":
            HydraConfig.get().overrides.task.append(f"resume='{folder}'")  # for the processes that Lightning starts
        resume(folder)
    elif status in ("missing", "failed"):
        for path in folder.iterdir():
            if path.name != LOG:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        function(config)


def note_failure(folder: Path, config: DictConfig, error: Exception) -> None:
    """Say in the job's folder why it failed, where the run has not done so."""
    log.error(str(error), exc_info=not isinstance(error, ConfigError | RunFailed))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record = Record.read(folder)
    except ConfigError:
        overrides = list(HydraConfig.get().overrides.task)
        record = Record(folder, {"overrides": overrides, "seed": config.get("seed"), "metrics": {}})
    if record.values.get("status") not in ("failed", "diverged"):
        record.update(status="failed", error=str(error) or type(error).__name__)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what would go to the terminal to a file: a sweep shows a line for each job instead."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)  # Hydra sets it up again after the job
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a", encoding="utf-8", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield


# Stopping


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

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        if not received:
            raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])


@contextlib.contextmanager
def stopped_with_the_sweep(stop: Path, launched_by: int) -> Iterator[None]:
    """Ask this process to stop, in good order, when the sweep is stopped or the process that launched it is gone."""
    is_child = os.getppid() == launched_by  # of SLURM's jobs another machine may be the parent
    if is_child and os.getpgrp() == os.getpgid(launched_by):
        os.setpgrp()  # the terminal's Ctrl-C is for the launching process, which then tells its jobs
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if stop.exists() or (is_child and os.getppid() != launched_by):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        with signals.caught():
            yield
    finally:
        over.set()
