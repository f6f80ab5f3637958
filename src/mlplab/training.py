"""One training run, from config to a finished run folder."""

import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from mlplab import build, result
from mlplab.callbacks.guards import Diverged
from mlplab.callbacks.tensorboard import log_hyperparameters
from mlplab.checks import ConfigError
from mlplab.record import Record, now
from mlplab.rules import config_faults


def train(config: DictConfig) -> dict[str, float]:
    """Train, validate, and (with `test=true`) test the best checkpoint once; everything is in `config.folder` then.

    Gives the final metrics. Raises ConfigError before anything is written, RunFailed when training goes wrong.
    """
    build.quiet_libraries()
    folder, environment = Path(config.folder), dict(os.environ)
    try:
        if faults := config_faults(config):
            raise ConfigError(*faults)
        draw_seed(config)
        pl.seed_everything(config.seed, workers=True, verbose=False)
        data = build.data_module(config)
        classifier = build.classifier(config, data)
        build.check_batch_norm(classifier, data)
        build.set_threads(config, classifier)
        trainer = build.trainer(config, data)
        record = Record(folder, result.facts(config, data, classifier))
        if trainer.is_global_zero:
            record.create(config)
    except ConfigError:
        remove_if_empty(folder)
        raise
    if trainer.world_size > 1:
        prepare_child_processes()
    log_hyperparameters(trainer.loggers, result.hyperparameters(config, data))

    fit(trainer, classifier, data, record)
    if config.test and len(data.datasets["test"]):
        test(trainer, classifier, data, record)
    if trainer.is_global_zero:
        finish(trainer, record)
    if trainer.world_size > 1:
        end_child_processes(environment)
    return record.values["metrics"]


def fit(trainer: pl.Trainer, classifier: pl.LightningModule, data: Any, record: Record) -> None:
    """Run Lightning's fit; the record says how it ended, whatever happens."""
    start = time.perf_counter()
    outcome: dict[str, Any] = {}
    try:
        trainer.fit(classifier, datamodule=data)
        if trainer.interrupted:
            raise KeyboardInterrupt
        outcome = {"status": "finished", "stop_reason": result.stop_reason(trainer)}
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        status = "stopped" if stopped else "diverged" if isinstance(error, Diverged) else "failed"
        outcome = {"status": status, "error": str(error) or type(error).__name__}
        raise
    finally:
        best = result.best_checkpoint(trainer)
        outcome |= result.progress(trainer, data) | {
            "metrics": result.metrics_of(trainer),
            "best_checkpoint": os.path.relpath(best, record.folder) if best else None,
            "fit_seconds": time.perf_counter() - start,
        }
        if trainer.is_global_zero:
            record.update(**outcome)


def test(trainer: pl.Trainer, classifier: pl.LightningModule, data: Any, record: Record) -> None:
    """Look at the test set, once, with the best checkpoint."""
    best = result.best_checkpoint(trainer)
    trainer.test(classifier, datamodule=data, ckpt_path=best, weights_only=True, verbose=False)
    scores = {name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}
    if trainer.is_global_zero:
        record.update(metrics=record.values["metrics"] | scores)
        record.count_test()


def finish(trainer: pl.Trainer, record: Record) -> None:
    """Close the logs with the best scores, and print the table."""
    best = {name: value for name, value in record.values["metrics"].items() if name.startswith("best/")}
    for logger in trainer.loggers:
        logger.log_metrics(best, step=trainer.global_step)
        logger.finalize("success")
    record.update(finished=now())
    result.show(record)


def draw_seed(config: DictConfig) -> None:
    """Replace `seed: null` by a seed drawn at random, so that the config on disk says which one it was."""
    if config.seed is None:
        with read_write(config):
            config.seed = secrets.randbelow(2**32)


def remove_if_empty(folder: Path) -> None:
    """Take back the folder that Hydra made for a run which did not start."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def prepare_child_processes() -> None:
    """Let the processes that Lightning starts repeat this job, also where it is one of a multirun.

    Lightning starts them with this process's arguments, which in a multirun are those of the whole sweep.
    """
    if HydraConfig.initialized():
        hydra_config: Any = HydraConfig.get()
        with read_write(hydra_config), open_dict(hydra_config):
            hydra_config.run.dir = hydra_config.runtime.output_dir
        sys.argv[1:] = list(hydra_config.overrides.task)


def end_child_processes(environment: dict[str, str]) -> None:
    """Leave the process group, and restore the environment, so that the next job of a multirun can form its own."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)
