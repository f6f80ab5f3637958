"""One training run, from config to a finished run folder; and its continuation after an interruption."""

import errno
import functools
import logging
import os
import secrets
import signal
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from hydra import compose
from omegaconf import DictConfig, OmegaConf, read_write

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
from mlplab.config.check import config_faults, section_faults
from mlplab.errors import ConfigError, RunFailed, first_line, is_out_of_memory
from mlplab.files import now, read_checkpoint
from mlplab.runs import build, facts
from mlplab.runs.checkpoints import last_checkpoint, load_weights, weights_digest, whole
from mlplab.runs.processes import end_child_processes, prepare_child_processes
from mlplab.runs.record import CHECKPOINTS, Record
from mlplab.runs.resume import LONGER, continued_config, rebased, run_and_checkpoint, with_changes
from mlplab.signals import Stopped

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """All objects of one run."""

    config: DictConfig
    data: Any
    classifier: Any
    trainer: pl.Trainer
    record: Record


def train(config: DictConfig, *, callbacks: Sequence[pl.Callback] = ()) -> dict[str, float]:
    """Train, validate, and (with `test=true`) test the best checkpoint once; everything is in `config.folder` then.

    `callbacks` come beside those of the config. Gives the final metrics. Raises ConfigError before anything is written,
    RunFailed when training goes wrong, Stopped when a signal ends it.
    """
    if config.get("resume"):
        return resume_as_asked(config.resume)
    folder = Path(config.folder)
    with signals.caught():
        try:
            if faults := config_faults(config):
                raise ConfigError(*faults)
            draw_seed(config)
            job = prepare(config, callbacks)
            if job.trainer.is_global_zero:
                job.record.create(config)
        except (ConfigError, Stopped):
            remove_if_empty(folder)
            raise
        return complete(job, None)


def resume_as_asked(path: str) -> dict[str, float]:
    """`resume=<path>` with this command line's other overrides."""
    folder, _ = run_and_checkpoint(path)
    config, changes = continued_config(folder, facts.overrides(), functools.partial(compose, "train"))
    return resume(Path(path), config=config, changes=list(changes))


def resume(folder: Path, *, config: DictConfig | None = None, changes: Sequence[str] = ()) -> dict[str, float]:
    """Continue a run in its folder from last.ckpt as if it had never been interrupted; gives the final metrics.

    `folder` may be a checkpoint of a run folder instead. `config` is the run's own, and may be longer or computed
    otherwise in the keys `changes` (see `mlplab.runs.resume`). A finished run is left as it is.
    """
    folder, checkpoint = run_and_checkpoint(str(folder))
    record = Record.read(folder)
    if config is None:
        config = rebased(record.config(), folder)
        if faults := section_faults(config) or config_faults(config):
            raise ConfigError(*(f"{folder}/config.yaml: {fault}" for fault in faults))
    longer = [f"{key}={OmegaConf.select(config, key)}" for key in changes if key in LONGER]
    if record.values.get("status") == "finished" and not longer and checkpoint is None:
        log.info("%s is finished; more epochs: trainer.max_epochs=…", folder)
        return record.values["metrics"]
    with signals.caught():
        job = prepare(config)
        checkpoint = whole(checkpoint) if checkpoint else last_checkpoint(folder / CHECKPOINTS)
        if checkpoint is not None:
            check_data(job, record, checkpoint)
        if job.trainer.is_global_zero:
            record.lock()
            if longer:
                log.info("longer now: %s; a schedule over the whole run is one over the longer run", " ".join(longer))
            if changes:
                record.write_config(config)
            record.update(status="running", error=None, overrides=with_changes(record, config, changes))
        return complete(job._replace(record=record), checkpoint)


def prepare(config: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Job:
    """Build everything a run needs; nothing is written."""
    build.quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = build.data_module(config)
    classifier = build.classifier(config, data)
    build.check_batch_norm(classifier, data)
    build.set_threads(config, classifier)
    record = Record(Path(config.folder), facts.facts(config, data, classifier))
    return Job(config, data, classifier, build.trainer(config, data, callbacks), record)


def check_data(job: Job, record: Record, checkpoint: Path) -> None:
    """Raise ConfigError where the data are not those that the run was trained on."""
    before = read_checkpoint(checkpoint)["DataModule"] | {"number of samples": record.values.get("samples")}
    now = job.data.state_dict() | {"number of samples": job.record.values["samples"]}
    if changed := [name.replace("_", " ") for name, value in now.items() if before.get(name) != value]:
        raise ConfigError(
            f"the data are not those that {record.folder} was trained on: other {', '.join(changed)}; "
            "bring them back, or start a new run"
        )


def complete(job: Job, checkpoint: Path | None) -> dict[str, float]:
    """Fit from a checkpoint or the beginning, test, and close the record."""
    config, data, _, trainer, record = job
    environment = dict(os.environ)
    try:
        if trainer.world_size > 1:
            prepare_child_processes()
        if trainer.is_global_zero:
            continue_logs(trainer, checkpoint)
        if checkpoint is None:
            log_hyperparameters(trainer.loggers, facts.hyperparameters(config, data))
            log_text(trainer.loggers, "command", code_block(record.values["command"]))
            log_text(trainer.loggers, "config", code_block(OmegaConf.to_yaml(config, resolve=True)))
        fit(job, checkpoint)
        if config.test and len(data.datasets["test"]):
            test(job)
        if trainer.is_global_zero:
            finish(job)
    except Stopped as stop:
        stop.advice = [f"to continue: python train.py resume={facts.short_path(record.folder)}"]
        if stop.signal not in (signal.SIGINT, signal.SIGTERM) and (problem := signals.requeue()):
            log.warning("SLURM does not start this job again: %s", problem)
        raise
    except Exception as error:
        raise explained(error, job) from error
    finally:
        record.release()
        if trainer.world_size > 1:
            end_child_processes(environment)
    return record.values["metrics"]


def continue_logs(trainer: pl.Trainer, checkpoint: Path | None) -> None:
    """Take back what an earlier launch of this run logged after the checkpoint."""
    for path in Path(trainer.default_root_dir, CHECKPOINTS).glob(".*.tmp"):
        path.unlink()  # left by a crash in the midst of saving
    say_errors_once()
    for line in cut_logs(trainer.loggers, read_checkpoint(checkpoint)["exact"]["logs"] if checkpoint else {}):
        log.warning(line)


def fit(job: Job, checkpoint: Path | None) -> None:
    """Run Lightning's fit; the record says how it ended, whatever happens."""
    trainer, record = job.trainer, job.record
    start, outcome = time.perf_counter(), dict[str, Any]()
    try:
        trainer.fit(job.classifier, datamodule=job.data, ckpt_path=checkpoint, weights_only=True)
        outcome = {"stop_reason": facts.stop_reason(trainer)}
        outcome["weights_digest"] = weights_digest(job.classifier.network)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit | Stopped)
        status = "stopped" if stopped else "diverged" if isinstance(error, Diverged) else "failed"
        outcome = {"status": status, "error": str(error) or type(error).__name__}
        raise
    finally:
        best = facts.best_checkpoint(trainer)
        outcome |= facts.progress(trainer, job.data) | {
            "metrics": facts.metrics_of(trainer),
            "best_checkpoint": os.path.relpath(best, record.folder) if best else None,
            "fit_seconds": facts.fit_seconds(trainer, time.perf_counter() - start),
            "test_evaluations": [*record.values.get("test_evaluations", []), *facts.looks_during_training(trainer)],
        }
        if trainer.is_global_zero:
            record.update(**outcome)


def test(job: Job) -> None:
    """Look at the test set, once, with the best checkpoint."""
    trainer, record = job.trainer, job.record
    if best := facts.best_checkpoint(trainer):
        load_weights(job.classifier, Path(best))
    try:
        trainer.test(job.classifier, datamodule=job.data, verbose=False)
    except BaseException as error:
        if trainer.is_global_zero:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit | Stopped)
            record.update(status="stopped" if stopped else "failed", error=f"in the test: {error}")
        raise
    scores = {name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}
    if trainer.is_global_zero:
        record.update(metrics=record.values["metrics"] | scores)
        record.count_test()


def finish(job: Job) -> None:
    """Close the logs with the best scores, and print the table."""
    best = {name: value for name, value in job.record.values["metrics"].items() if name.startswith("best/")}
    for logger in job.trainer.loggers:
        logger.log_metrics(best, step=job.trainer.global_step)
    log_text(job.trainer.loggers, "result", facts.markdown(job.record), updates=job.trainer.global_step)
    flush_logs(job.trainer.loggers)  # which raises what could not be written; closing does not
    for logger in job.trainer.loggers:
        logger.finalize("success")
    job.record.update(status="finished", finished=now())
    facts.show(job.record)


def explained(error: Exception, job: Job) -> Exception:
    """The error, or one that says what to do about a machine that has run out of something."""
    folder = facts.short_path(job.record.folder)
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


def draw_seed(config: DictConfig) -> None:
    """Replace `seed: null` by a seed drawn at random, so that the config on disk says which one it was."""
    if config.seed is None:
        with read_write(config):
            config.seed = secrets.randbelow(2**32)


def remove_if_empty(folder: Path) -> None:
    """Take back the folder that Hydra made for a run which did not start."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
