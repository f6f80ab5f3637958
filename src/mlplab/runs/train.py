"""One training run, from config to a finished run folder; and its continuation after an interruption."""

import contextlib
import errno
import logging
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from mlplab import signals
from mlplab.callbacks.guards import Diverged
from mlplab.callbacks.tensorboard import (
    code_block,
    cut_logs,
    flush_logs,
    log_hyperparameters,
    log_text,
    say_errors_once,
)
from mlplab.config.check import CONF, config_faults
from mlplab.errors import ConfigError, RunFailed, first_line, is_out_of_memory
from mlplab.files import now, read_checkpoint
from mlplab.runs import build, facts
from mlplab.runs.build import Training
from mlplab.runs.checkpoints import check_whole, load_weights, weights_digest
from mlplab.runs.record import CHECKPOINTS, Record
from mlplab.runs.resume import LONGER, continued_config, run_and_checkpoint
from mlplab.signals import Stopped

log = logging.getLogger(__name__)


def train(
    config: DictConfig, *, overrides: Sequence[str] | None = None, callbacks: Sequence[pl.Callback] = ()
) -> dict[str, float]:
    """Train, validate, and (with `test=true`) test the best checkpoint once; everything is in `config.folder` then.

    `overrides` are noted as what made the config; None for those that Hydra was started with. `callbacks` come beside
    those of the config. Gives the final metrics. Raises ConfigError before anything is written, RunFailed when training
    goes wrong, Stopped when a signal ends it.
    """
    overrides = facts.overrides_of_hydra() if overrides is None else overrides
    folder = Path(config.folder)
    with signals.caught():
        try:
            if faults := config_faults(config):
                raise ConfigError(*faults)
            if config.seed is None:
                with read_write(config):  # so that the config on disk says which seed it was
                    config.seed = secrets.randbelow(2**32)
            training = build.training(config, callbacks)
            record = Record(folder, facts.facts(training, overrides))
            record.on_disk = training.trainer.is_global_zero
            if record.on_disk:
                record.create(training.yaml)
        except (ConfigError, Stopped):
            with contextlib.suppress(OSError):
                folder.rmdir()  # which Hydra has made; one that is not empty stays
            raise
        return complete(training, record, None, arguments=overrides)


def resume(folder: str | Path, *, overrides: Sequence[str] | None = None) -> dict[str, float]:
    """Continue a run in its folder from last.ckpt as if it had never been interrupted; gives the final metrics.

    `folder` may be a checkpoint of a run folder instead. `overrides` may make the run longer or computed otherwise (see
    `mlplab.runs.resume`); None for those that Hydra was started with. A finished run is left as it is. Raises as
    `train`.
    """
    asked = str(folder)
    folder, checkpoint = run_and_checkpoint(asked)
    record = Record.read(folder)
    config, changes = continued_config(folder, facts.overrides_of_hydra() if overrides is None else overrides)
    longer = [f"{key}={value}" for key, value in changes.items() if key in LONGER]
    if record.values.get("status") == "finished" and not longer and checkpoint is None:
        log.info("%s is finished; more epochs: trainer.max_epochs=…", folder)
        return record.values["metrics"]
    with signals.caught():
        training = build.training(config)
        last = folder / CHECKPOINTS / "last.ckpt"
        if checkpoint := checkpoint or (last if last.exists() else None):  # None where the run has to begin anew
            check_whole(checkpoint)
            check_data(training, record, checkpoint)
        record.on_disk = training.trainer.is_global_zero
        if record.on_disk:
            record.lock()
            if longer:
                log.info("longer now: %s; a schedule over the whole run is one over the longer run", " ".join(longer))
            if changes:
                record.write_config(training.yaml)
            kept = [line for line in record.values.get("overrides", []) if line.partition("=")[0] not in changes]
            kept += [f"{key}={value}" for key, value in changes.items()]
            record.update(status="running", error=None, overrides=kept)
        return complete(training, record, checkpoint, arguments=[f"resume='{asked}'"])


def check_data(training: Training, record: Record, checkpoint: Path) -> None:
    """Raise ConfigError where the data are not those that the run was trained on."""
    samples = {split: len(dataset) for split, dataset in training.data.datasets.items()}
    before = read_checkpoint(checkpoint)["DataModule"] | {"number of samples": record.values.get("samples")}
    now = training.data.state_dict() | {"number of samples": samples}
    if changed := [name.replace("_", " ") for name, value in now.items() if before.get(name) != value]:
        raise ConfigError(
            f"the data are not those that {record.folder} was trained on: other {', '.join(changed)}; "
            "bring them back, or start a new run"
        )


def complete(
    training: Training, record: Record, checkpoint: Path | None, *, arguments: Sequence[str]
) -> dict[str, float]:
    """Fit from a checkpoint or the beginning, test, and close the record, which says how it ended, whatever happens.

    `arguments` are those with which `train.py` does the same.
    """
    try:
        with several_processes(training.trainer, arguments), ending_noted(training.trainer, record):
            begin_logs(training, record, checkpoint)
            fit(training, record, checkpoint)
            if training.settings["test"] and len(training.data.datasets["test"]):
                test(training, record)
            if record.on_disk:
                finish(training.trainer, record)
    except Stopped as stop:
        stop.advice = [f"to continue: python train.py resume={facts.short_path(record.folder)}"]
        if stop.signal not in (signal.SIGINT, signal.SIGTERM) and (problem := signals.requeue()):
            log.warning("SLURM does not start this job again: %s", problem)
        raise
    except Exception as error:
        raise explained(error, facts.short_path(record.folder)) from error
    finally:
        record.release()
    return record.values["metrics"]


def begin_logs(training: Training, record: Record, checkpoint: Path | None) -> None:
    """Take back what an earlier launch logged after the checkpoint; without one, say what the run is."""
    columns = facts.hyperparameters(training.settings, training.data, record.values.get("overrides", []))
    loggers = training.trainer.loggers
    if record.on_disk:
        for path in (record.folder / CHECKPOINTS).glob(".*.tmp"):
            path.unlink()  # left by a crash in the midst of saving
        say_errors_once()
        for line in cut_logs(loggers, read_checkpoint(checkpoint)["exact"]["logs"] if checkpoint else {}):
            log.warning(line)
    if checkpoint is None:
        log_hyperparameters(loggers, columns)
        log_text(loggers, "command", code_block(record.values["command"]))
        log_text(loggers, "config", code_block(training.yaml))


def fit(training: Training, record: Record, checkpoint: Path | None) -> None:
    """Run Lightning's fit; the record says how far it came, whatever happens."""
    data, classifier, trainer, *_ = training
    start, outcome = time.perf_counter(), dict[str, Any]()
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        outcome = {"stop_reason": facts.stop_reason(trainer), "weights_digest": weights_digest(classifier.network)}
    finally:
        best, updates = facts.best_checkpoint(trainer), trainer.global_step
        record.update(
            **outcome,
            updates=updates,
            epochs=updates // data.updates_per_epoch,
            samples_seen=data.samples_seen(updates),
            metrics=facts.metrics_of(trainer),
            best_checkpoint=os.path.relpath(best, record.folder) if best else None,
            fit_seconds=facts.fit_seconds(trainer, time.perf_counter() - start),
            test_evaluations=[*record.values.get("test_evaluations", []), *facts.looks_during_training(trainer)],
        )


def test(training: Training, record: Record) -> None:
    """Look at the test set, once, with the best checkpoint."""
    data, classifier, trainer, *_ = training
    if best := facts.best_checkpoint(trainer):
        load_weights(classifier, Path(best))
    trainer.test(classifier, datamodule=data, verbose=False)
    scores = {name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}
    record.update(metrics=record.values["metrics"] | scores)
    record.count_test()


def finish(trainer: pl.Trainer, record: Record) -> None:
    """Close the logs with the best scores, and print the table."""
    best = {name: value for name, value in record.values["metrics"].items() if name.startswith("best/")}
    for logger in trainer.loggers:
        logger.log_metrics(best, step=trainer.global_step)
    log_text(trainer.loggers, "result", facts.markdown(record), updates=trainer.global_step)
    flush_logs(trainer.loggers)  # which raises what could not be written; closing does not
    for logger in trainer.loggers:
        logger.finalize("success")
    record.update(status="finished", finished=now())
    facts.show(record)


@contextlib.contextmanager
def ending_noted(trainer: pl.Trainer, record: Record) -> Iterator[None]:
    """Note in the record what ends the run before its time."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit | Stopped)
        status = "stopped" if stopped else "diverged" if isinstance(error, Diverged) else "failed"
        where = "in the test: " if trainer.state.fn == "test" else ""
        record.update(status=status, error=where + (str(error) or type(error).__name__))
        raise


def explained(error: Exception, folder: Path) -> Exception:
    """The error, or one that says what to do about a machine that has run out of something."""
    if is_out_of_memory(error):  # Lightning has forgotten by now what it was doing
        evaluates = any("evaluation_loop" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
        key = "data.eval_batch_size" if evaluates else "data.batch_size"
        return RunFailed(
            f"out of memory: lower {key} (or steps_per_execution, model.hidden_sizes); {first_line(error)}"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RunFailed(
            f"{error.filename or folder}: {error.strerror}; the checkpoint saved before is whole. "
            f"Free some space, then: python train.py resume={folder}"
        )
    return error


@contextlib.contextmanager
def several_processes(trainer: pl.Trainer, arguments: Sequence[str]) -> Iterator[None]:
    """Let the processes that Lightning starts for this run repeat it, and leave no trace of them for the next run.

    Lightning starts them with this process's arguments, which may be those of a whole sweep, or of another program.
    """
    environment, command = dict(os.environ), list(sys.argv)
    if trainer.world_size > 1:
        if HydraConfig.initialized():
            hydra_config: Any = HydraConfig.get()
            with read_write(hydra_config), open_dict(hydra_config):
                hydra_config.run.dir = hydra_config.runtime.output_dir
            sys.argv[1:] = [*arguments, "hydra.mode=RUN"]
        else:
            sys.argv = [str(CONF.parent / "train.py"), *arguments, f"hydra.run.dir='{trainer.default_root_dir}'"]
    try:
        yield
    finally:
        if trainer.world_size > 1:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = command
