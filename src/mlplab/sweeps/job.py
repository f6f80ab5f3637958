"""One job of a sweep, in whatever process it is: begun, continued or left alone, and stopped with the sweep."""

import contextlib
import functools
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, read_write

from mlplab import signals
from mlplab.config.keys import select
from mlplab.errors import ConfigError, RunFailed
from mlplab.runs.record import Record
from mlplab.signals import Stopped
from mlplab.sweeps.jobs import Job

LOG = "train.log"
SECONDS_BETWEEN_LOOKS = 0.5

log = logging.getLogger(__name__)
_idle = threading.Event()  # set between two jobs


def run_job(
    config: DictConfig, *, function: Callable[[DictConfig], Any], launched_by: int, joblib: bool, stop: Path
) -> None:  # fmt: skip
    """Run one job of a sweep; its folder says how it ended, also where it never began. Its output goes to train.log."""
    if stop.exists():
        return
    folder, in_child = Path(config.folder), os.getpid() != launched_by
    parent = launched_by if joblib else None  # other launchers start their jobs by way of others
    with output_to(folder / LOG), stopped_with_the_sweep(stop, parent) if in_child else contextlib.nullcontext():
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
        from mlplab.runs.train import resume  # here, so that a sweep with nothing left to do need not wait for torch

        if select(config, "trainer.strategy", "auto") != "auto":
            overrides: Any = HydraConfig.get().overrides  # which the processes that Lightning starts repeat
            with read_write(overrides):
                overrides.task.append(f"resume='{folder}'")
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
    status = record.values.get("status")
    if status not in ("failed", "diverged"):
        # A stopped run that is refused, for example since its data are gone, can be continued once they are back.
        refused = isinstance(error, ConfigError) and status in ("stopped", "running")
        record.update(status="stopped" if refused else "failed", error=str(error) or type(error).__name__)


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


@contextlib.contextmanager
def stopped_with_the_sweep(stop: Path, parent: int | None) -> Iterator[None]:
    """In a process of its own: ask the job to stop, in good order, when the sweep is stopped or its process is gone.

    `parent` is the number of that process where it must be this one's parent.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if stop.exists() or is_gone(parent):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    if parent is not None:
        watch_parent(parent)
    threading.Thread(target=watch, daemon=True).start()
    _idle.clear()
    try:
        with signals.caught():
            yield
    finally:
        over.set()
        _idle.set()


@functools.cache
def watch_parent(parent: int) -> None:
    """Once in each process: end it with its parent, between two jobs; leave the terminal's Ctrl-C to the parent."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()

    def watch() -> None:
        while not is_gone(parent):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        _idle.wait()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def is_gone(parent: int | None) -> bool:
    return parent is not None and os.getppid() != parent
