"""One job of a sweep, in whatever process it is: begun, continued or left alone, and stopped with the sweep."""

import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mlplab import signals
from mlplab.config.targets import raised
from mlplab.errors import ConfigError, RunFailed
from mlplab.runs.record import Record
from mlplab.signals import Stopped
from mlplab.sweeps.grid import Job
from mlplab.sweeps.progress import looking

LOG = "train.log"

log = logging.getLogger(__name__)


def run_job(config: DictConfig, *, launched_by: int, stop: Path) -> None:
    """Run one job of a sweep; its folder says how it ended, also where it never began. Its output goes to train.log.

    `launched_by` is the process of the sweep, and the file `stop` its wish that others end their jobs.
    """
    if stop.exists():
        return
    folder, is_here = Path(config.folder), os.getpid() == launched_by
    with (
        (folder / LOG).open("a", encoding="utf-8", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        contextlib.nullcontext() if is_here else stopped_with_the_sweep(stop),
    ):
        try:
            begin_or_continue(config, folder)
        except Stopped:
            if is_here:
                raise  # ends the sweep, which for other processes `stop` does
        except Exception as error:
            note_failure(folder, config, error)


def begin_or_continue(config: DictConfig, folder: Path) -> None:
    """Do what is left of a job: all of it, or the rest of one that was stopped, or nothing."""
    from mlplab.runs.train import resume, train  # here, since a sweep is checked before torch is loaded

    status = Job((), folder, "").result()["status"]
    if status == "stopped":
        resume(folder)
    elif status in ("missing", "failed"):
        for path in folder.iterdir():
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
    if status not in ("failed", "diverged"):
        # A stopped run that is refused, for example since its data are gone, can be continued once they are back.
        refused = isinstance(error, ConfigError) and status in ("stopped", "running")
        record.update(status="stopped" if refused else "failed", error=raised(error))


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
