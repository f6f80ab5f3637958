"""One training run, from config to a finished run folder; and its continuation after an interruption."""

import contextlib
import errno
import logging
import os
import secrets
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mlplab import cluster, signals
from mlplab.callbacks import tensorboard
from mlplab.callbacks.base import measured
from mlplab.callbacks.guards import Diverged
from mlplab.config.check import CONF, config_faults
from mlplab.config.overrides import quoted
from mlplab.config.targets import raised
from mlplab.data.module import DataModule
from mlplab.errors import ConfigError, RunFailed, first_line, is_out_of_memory
from mlplab.files import now, read_checkpoint
from mlplab.models.classifier import Classifier
from mlplab.runs import build, facts
from mlplab.runs.checkpoints import check_data, check_whole, load_weights, weights_digest
from mlplab.runs.folders import short_path
from mlplab.runs.network import check_batch_norm, check_loss
from mlplab.runs.passes import epochs_per_validation
from mlplab.runs.record import CHECKPOINTS, Record
from mlplab.runs.resume import LONGER, continued_config, run_and_checkpoint
from mlplab.signals import Stopped

log = logging.getLogger(__name__)

SELDOM = "short epochs (updates in each: %d) are validated every %d; trainer.check_val_every_n_epoch=1: every one"


class Training(NamedTuple):
    """The objects of one training run, and its config: as plain data, and as YAML."""

    data: DataModule
    classifier: Classifier
    trainer: pl.Trainer
    settings: dict[str, Any]
    yaml: str


def built(config: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> Training:
    """Build all that a training run needs, with `callbacks` beside those of the config; nothing is written."""
    build.quiet_libraries()
    parts = build.plain(config)
    pl.seed_everything(parts["seed"], workers=True, verbose=False)
    data = build.data_module(parts)
    interval = epochs_per_validation(parts, data)
    if parts["trainer"]["check_val_every_n_epoch"] == "auto":
        with read_write(config):  # so that the config on disk says it
            config.trainer.check_val_every_n_epoch = parts["trainer"]["check_val_every_n_epoch"] = interval
        if interval > 1:
            log.info(SELDOM, data.updates_per_epoch, interval)
    model = build.classifier(parts, data)
    check_loss(model.network, model.loss, data)
    build.set_threads(parts, data, model)
    trainer = build.trainer(parts, data, callbacks)
    cluster.check_processes(trainer.num_devices * trainer.num_nodes)
    check_batch_norm(model, data, processes=trainer.world_size)
    return Training(data, model, trainer, parts, OmegaConf.to_yaml(config, resolve=True))


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
            training = built(config, callbacks)
            data, network = training.data, training.classifier.network
            device = training.trainer.strategy.root_device
            known = facts.facts(data, network, seed=config.seed, overrides=overrides, device=device)
            record = Record(folder, known)
            record.on_disk = training.trainer.is_global_zero
            if record.on_disk:
                record.create(training.yaml)
                if config.name and config.name != folder.name and folder.with_name(config.name).exists():
                    log.info("name=%s: there is such a run; this one is %s", config.name, folder.name)
        except BaseException:
            with contextlib.suppress(OSError):
                short_path(folder).rmdir()  # which Hydra has made; what is not empty stays, and so does "."
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
        log.info("%s is finished: %s; a higher limit continues it", folder, record.values.get("stop_reason"))
        return record.values["metrics"]
    with signals.caught():
        training = built(config)
        last = folder / CHECKPOINTS / "last.ckpt"
        if checkpoint := checkpoint or (last if last.exists() else None):  # None where the run has to begin anew
            check_whole(checkpoint)
            check_data(training.data, record, checkpoint)
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
        return complete(training, record, checkpoint, arguments=[f"resume={quoted(asked)}"])


def complete(
    training: Training, record: Record, checkpoint: Path | None, *, arguments: Sequence[str]
) -> dict[str, float]:
    """Fit from a checkpoint or the beginning, test, and close the record, which says how it ended, whatever happens.

    `arguments` are those with which `train.py` does the same.
    """
    folder = short_path(record.folder)
    try:
        with several_processes(training.trainer, arguments):
            begin_logs(training, record, checkpoint)
            fit(training, record, checkpoint)
            if training.settings["test"] and len(training.data.datasets["test"]):
                test(training, record)
            if record.on_disk:
                finish(training.trainer, record)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit | Stopped)
        status = "stopped" if stopped else "diverged" if isinstance(error, Diverged) else "failed"
        where = "in the test: " if training.trainer.state.fn == "test" else ""
        with contextlib.suppress(OSError):  # where the disk is full; what ends the run says so
            said = str(error) or type(error).__name__ if stopped else raised(error)
            record.update(status=status, error=where + said)
        if isinstance(error, Stopped):
            error.advice = [f"to continue: python train.py {shlex.quote(f'resume={folder}')}"]
        raise explained(error, folder) from error
    finally:
        record.release()
    return record.values["metrics"]


def begin_logs(training: Training, record: Record, checkpoint: Path | None) -> None:
    """Take back what an earlier launch logged after the checkpoint; without one, say what the run is."""
    columns = facts.hyperparameters(training.settings, training.data, record.values.get("overrides", []))
    loggers = training.trainer.loggers
    if record.on_disk:
        for path in record.folder.rglob(".*.tmp"):
            path.unlink()  # left by a crash in the midst of saving
        for line in tensorboard.cut_logs(loggers, read_checkpoint(checkpoint)["exact"]["logs"] if checkpoint else {}):
            log.warning(line)
    if checkpoint is None:
        tensorboard.log_hyperparameters(loggers, columns)
        tensorboard.log_text(loggers, "command", tensorboard.code_block(record.values["command"]))
        tensorboard.log_text(loggers, "config", tensorboard.code_block(training.yaml))


def fit(training: Training, record: Record, checkpoint: Path | None) -> None:
    """Run Lightning's fit; the record says how far it came, whatever happens."""
    trainer, seen = training.trainer, measured(training.trainer)  # whose clock starts now
    outcome = {}
    try:
        trainer.fit(training.classifier, datamodule=training.data, ckpt_path=checkpoint, weights_only=True)
        digest = weights_digest(training.classifier.network)
        outcome = {"stop_reason": facts.stop_reason(trainer), "weights_digest": digest}
    finally:
        looks = [*record.values.get("test_evaluations", []), *seen.looks]
        record.update(**outcome, **facts.progress(trainer, training.data), test_evaluations=looks)


def test(training: Training, record: Record) -> None:
    """Look at the test set, once, with the best checkpoint."""
    trainer, best = training.trainer, record.values["best_checkpoint"]
    if best:
        load_weights(training.classifier, record.folder / best)
    trainer.test(training.classifier, datamodule=training.data, verbose=False)
    scores = {name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}
    record.update(metrics=record.values["metrics"] | scores)
    record.count_test()


def finish(trainer: pl.Trainer, record: Record) -> None:
    """Close the logs with the best scores, and print the table."""
    metrics = record.values["metrics"]
    rows = sorted((name, f"{value:.4f}") for name, value in metrics.items())
    results = tensorboard.table(rows, header=("result", ""))
    tensorboard.log_text(trainer.loggers, "result", results, updates=trainer.global_step)
    for logger in trainer.loggers:
        best = {name: value for name, value in metrics.items() if name.startswith("best/")}
        logger.log_metrics(best, step=trainer.global_step)
    tensorboard.flush_logs(trainer.loggers)  # which raises what could not be written; closing does not
    for logger in trainer.loggers:
        logger.finalize("success")
    record.update(status="finished", finished=now())
    facts.show(record)


def explained(error: BaseException, folder: Path) -> BaseException:
    """The error, or one that says what to do about a machine that has run out of something."""
    if is_out_of_memory(error):
        advice = "lower data.batch_size, data.eval_batch_size, steps_per_execution or model.hidden_sizes"
        return RunFailed(f"out of memory: {advice}; {first_line(error)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        again = f"python train.py {shlex.quote(f'resume={folder}')}"
        advice = f"the checkpoint saved before is whole. Free some space, then: {again}"
        return RunFailed(f"{error.filename or folder}: {error.strerror}; {advice}")
    return error


@contextlib.contextmanager
def several_processes(trainer: pl.Trainer, arguments: Sequence[str]) -> Iterator[None]:
    """Let the processes that Lightning starts for this run repeat it, and leave no trace of them for the next run.

    Lightning starts them with this process's arguments, which may be those of a whole sweep, or of another program.
    """
    if trainer.world_size == 1:
        yield
        return
    environment, command = dict(os.environ), list(sys.argv)
    if HydraConfig.initialized():
        hydra_config: Any = HydraConfig.get()
        with read_write(hydra_config), open_dict(hydra_config):
            hydra_config.run.dir = hydra_config.runtime.output_dir
        sys.argv[1:] = [*arguments, "hydra.mode=RUN"]
    else:
        sys.argv = [str(CONF.parent / "train.py"), *arguments, f"hydra.run.dir={quoted(trainer.default_root_dir)}"]
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = command
