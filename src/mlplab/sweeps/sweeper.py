"""Running a sweep: its missing jobs go to Hydra's launcher, end in their folders, and are stopped together."""

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from mlplab import signals
from mlplab.config.check import CONF
from mlplab.config.overrides import composed
from mlplab.errors import first_line
from mlplab.files import lock
from mlplab.runs.record import LOCK, Record
from mlplab.signals import Stopped
from mlplab.sweeps.command_line import Grid
from mlplab.sweeps.job import run_job
from mlplab.sweeps.jobs import DONE, STOP, Job, Sweep, make_sweep
from mlplab.sweeps.progress import SweepProgress, ending

PAGE = "report.html"


def run_sweep(config_name: str, grid: Grid, function: Callable[[DictConfig], Any]) -> int:
    """Run what is missing of a sweep, failed or was stopped; gives the exit code.

    Raises ConfigError, before anything is run, where the sweep's folder holds another sweep or is in use.
    """
    with (
        initialize_config_dir(str(CONF), job_name=config_name, version_base="1.3"),
        alone_in(grid.folder),
        signals.caught(),
    ):
        compose = functools.partial(composed, config_name)
        sweep = make_sweep(grid.folder, grid.overrides, grid.study, list(grid.jobs()))
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
                again = "the same command" if grid.named else f"the same command with sweep={sweep.folder.name}"
                print(f"{stop}: {ended} of {len(sweep.jobs)} jobs are done; {again} continues the sweep")
                return stop.exit_code
            except Exception as error:  # of the launcher: a process of its own was killed, or a cluster refused a job
                print(f"error: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        return conclude(sweep, anything_new=bool(waiting))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from running the same sweep. Raises ConfigError where one does already."""
    folder.mkdir(parents=True, exist_ok=True)
    held = lock(folder / LOCK, f"{folder} is being run by another process; wait for it, or stop it first")
    try:
        yield
    finally:
        held.release()


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
        functools.partial(
            run_job,
            function=function,
            launched_by=os.getpid(),
            joblib=is_joblib(config.hydra.launcher),
            stop=folder.resolve() / STOP,
        ),
        config,
    )
    with signals.caught() if at_once == 1 else jobs_told(folder / STOP):
        launcher.launch([list(job.overrides) for job in jobs], initial_job_idx=0)


def jobs_at_once(launcher: DictConfig, num_jobs: int) -> int:
    """How many jobs this machine runs at the same time; 0 where it runs none, but a cluster does."""
    if is_joblib(launcher):
        workers = int(launcher.n_jobs)
        return min(num_jobs, workers if workers > 0 else max(1, (os.cpu_count() or 1) + 1 + workers))
    name = str(launcher.get("_target_")).rpartition(".")[2]
    return {"SlurmLauncher": 0, "LocalLauncher": num_jobs}.get(name, 1)


def is_joblib(launcher: DictConfig) -> bool:
    return str(launcher.get("_target_")).endswith(".JoblibLauncher")


def conclude(sweep: Sweep, *, anything_new: bool) -> int:
    """Name what failed, and write the report; gives the exit code."""
    ends = {job: job.status() for job in sweep.jobs}
    page = sweep.folder / PAGE
    if not anything_new and page.is_file():
        print(f"report  {page}")
        reported = True
    else:
        reported = set(ends.values()) == {"missing"} or report_on(sweep.folder)
    failed = {job: status for job, status in ends.items() if status != "finished"}
    if failed:
        sys.stdout.flush()
        print(f"error: {len(failed)} of {len(ends)} jobs did not finish", file=sys.stderr)
    for job, status in failed.items():
        said = "never begun" if status == "missing" else ending(Record.read(job.folder).values | {"status": status})
        print(f"error: {job.label}: {said} ({job.folder})", file=sys.stderr)
    return 1 if failed or not reported else 0


def report_on(folder: Path) -> bool:
    """Write and print the report; whether that worked. One that fails must not hide what the jobs have done."""
    from mlplab.report.report import show, write_report  # here, since they take a second to import

    try:
        show(write_report([folder], folder))
    except Exception as error:
        print(f"error: the report could not be written: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


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
