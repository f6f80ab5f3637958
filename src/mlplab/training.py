"""One training run, from config to a finished run folder."""

import logging
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from omegaconf import DictConfig, open_dict, read_write
from rich.console import Console
from rich.table import Table

from mlplab import build
from mlplab.callbacks.guards import Diverged
from mlplab.callbacks.tensorboard import log_hyperparameters
from mlplab.checks import ConfigError
from mlplab.record import Record, now

log = logging.getLogger(__name__)


def train(config: DictConfig) -> dict[str, float]:
    """Train, validate, and (with `test=true`) test the best checkpoint once; everything is in `config.folder` then.

    Gives the final metrics. Raises ConfigError before anything is written, RunFailed when training goes wrong.
    """
    if faults := build.config_faults(config):
        raise ConfigError(*faults)
    build.quiet_libraries()
    draw_seed(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    folder = Path(config.folder)
    try:
        data = build.data_module(config)
        classifier = build.classifier(config, data)
        build.set_threads(config, classifier)
        trainer = build.trainer(config, data)
        record = Record.create(folder, config, facts(config, data, classifier)) if trainer.is_global_zero else None
    except ConfigError:
        remove_if_empty(folder)
        raise
    environment = dict(os.environ)
    if trainer.world_size > 1:
        prepare_child_processes()
    log_hyperparameters(trainer.loggers if record else [], hyperparameters(config, data))

    start = time.perf_counter()
    try:
        trainer.fit(classifier, datamodule=data)
        outcome = {"status": "finished", "stop_reason": stop_reason(trainer)}
        if trainer.interrupted:
            raise KeyboardInterrupt
    except BaseException as error:
        if record:
            status = "diverged" if isinstance(error, Diverged) else "failed"
            status = "stopped" if isinstance(error, KeyboardInterrupt | SystemExit) else status
            seconds = time.perf_counter() - start
            record.update(
                status=status, error=str(error) or type(error).__name__, fit_seconds=seconds, **progress(trainer, data)
            )
            if isinstance(error, Diverged):
                raise Diverged(f"{error} (run folder: {folder})") from error
        raise
    metrics = final_metrics(trainer)
    outcome |= {"fit_seconds": time.perf_counter() - start, "best_checkpoint": best_checkpoint(trainer, folder)}
    outcome |= progress(trainer, data)
    if config.test and len(data.datasets["test"]):
        checkpoint = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else None
        trainer.test(classifier, datamodule=data, ckpt_path=checkpoint or None, weights_only=True, verbose=False)
        metrics |= {name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}
        outcome["test_evaluations"] = [now()]
    if record:
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in metrics.items() if k.startswith("best/")}, step=trainer.global_step)
            logger.finalize("success")
        record.update(metrics=metrics, finished=now(), **outcome)
        show(record)
    if trainer.world_size > 1:
        end_child_processes(environment)
    return metrics


def end_child_processes(environment: dict[str, str]) -> None:
    """Leave the process group, and restore the environment, so that the next job of a multirun can form its own."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)


def draw_seed(config: DictConfig) -> None:
    """Replace `seed: null` by a seed drawn at random, so that the config on disk says which one it was."""
    if config.seed is None:
        with read_write(config):
            config.seed = secrets.randbelow(2**32)


def prepare_child_processes() -> None:
    """Let the processes that Lightning starts repeat this job, also where it is one of a multirun.

    Lightning starts them with this process's arguments, which in a multirun are those of the whole sweep.
    """
    if HydraConfig.initialized():
        hydra_config = HydraConfig.get()
        with read_write(hydra_config), open_dict(hydra_config):
            hydra_config.run.dir = hydra_config.runtime.output_dir
        sys.argv[1:] = list(hydra_config.overrides.task)


# What result.json says


def facts(config: DictConfig, data: Any, classifier: torch.nn.Module) -> dict[str, Any]:
    """What is known of a run before it starts."""
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return {
        "status": "running",
        "started": now(),
        "metrics": {},
        "seed": config.seed,
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "steps_per_execution": data.group_size,
        "samples": {split: len(dataset) for split, dataset in data.datasets.items()},
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "overrides": overrides,
        "command": " ".join([Path(sys.argv[0]).name, *overrides]),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "lightning", "torchmetrics", "hydra-core")},
        "hardware": hardware(),
        "test_evaluations": [],
        "error": None,
    }


def progress(trainer: pl.Trainer, data: Any) -> dict[str, int]:
    updates = trainer.global_step
    epochs, rest = divmod(updates, data.updates_per_epoch)
    samples_per_epoch = min(len(data.datasets["train"]), data.updates_per_epoch * data.batch_size)
    return {
        "updates": updates,
        "epochs": epochs,
        "samples_seen": epochs * samples_per_epoch + rest * data.batch_size,
    }


def final_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """The latest value of every metric, and the best of the monitored one."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = trainer.checkpoint_callback
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        metrics[f"best/{checkpoint.monitor}"] = float(checkpoint.best_model_score)
    return metrics


def best_checkpoint(trainer: pl.Trainer, folder: Path) -> str | None:
    """Relative to the run folder, so that the folder can be moved."""
    checkpoint = trainer.checkpoint_callback
    path = checkpoint.best_model_path if isinstance(checkpoint, ModelCheckpoint) else ""
    return str(Path(path).relative_to(folder)) if path else None


def stop_reason(trainer: pl.Trainer) -> str:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
            return f"early stopping after epoch {callback.stopped_epoch + 1}: no better {callback.monitor}"
    if trainer.max_steps >= 0 and trainer.global_step >= trainer.max_steps:
        return f"trainer.max_steps={trainer.max_steps} reached"
    return f"trainer.max_epochs={trainer.max_epochs} reached"


def hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}"
    cores = torch.multiprocessing.cpu_count()
    return f"{cores} CPU cores ({platform.machine()}), {torch.get_num_threads()} thread(s) used"


def git_commit() -> str | None:
    """The commit of the code, with "+changes" where files differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None

    def run(*arguments: str) -> str:
        return subprocess.run(
            [git, *arguments], cwd=Path(__file__).parent, capture_output=True, text=True
        ).stdout.strip()

    commit = run("rev-parse", "--verify", "--quiet", "HEAD")
    return (commit + ("+changes" if run("status", "--porcelain", "--untracked-files=no") else "")) if commit else None


def hyperparameters(config: DictConfig, data: Any) -> dict[str, str | int | float]:
    """The columns of TensorBoard's HParams tab: the same names and types in every run of a sweep, never None."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    dropout = build.select(config, "model.dropout", 0.0) or 0.0
    columns: dict[str, str | int | float] = {
        group: str(choices.get(group, "")) for group in ("model", "data", "regularization", "optimizer", "scheduler")
    }
    columns |= {
        "updates_per_epoch": data.updates_per_epoch,
        "batch_size": data.batch_size,
        "train_size": len(data.datasets["train"]),
        "lr": float(config.optimizer.lr),
        "weight_decay": float(config.optimizer.get("weight_decay", 0.0)),
        "dropout": float(sum(dropout) / len(dropout)) if isinstance(dropout, list) else float(dropout),
        "label_smoothing": float(build.select(config, "loss.label_smoothing", 0.0)),
        "hidden_sizes": str(build.select(config, "model.hidden_sizes", "")),
        "seed": config.seed,
    }
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        columns.setdefault(key, value)  # as text: 0.5 in one run and [0.2,0.5] in the next keep one type
    return columns


# What the terminal shows


def show(record: Record) -> None:
    """The scores, the run folder, and what to type next."""
    values, console = record.values, Console()
    metrics = values["metrics"]
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("split")
    table.add_column("loss", justify="right")
    table.add_column("accuracy", justify="right")
    for split, label in (("train", "training"), ("val", "validation"), ("test", "test (best checkpoint)")):
        if f"{split}/acc" in metrics:
            table.add_row(label, f"{metrics[f'{split}/loss']:.4f}", f"{metrics[f'{split}/acc']:.2%}")
    console.print()
    console.print(table)
    console.print()
    folder = short_path(record.folder)
    logdir = folder if folder.is_absolute() else folder.parts[0]
    for line in (
        f"{values['updates']:,} updates in {values['epochs']} epochs, {values['fit_seconds']:.1f} s"
        f" ({values['stop_reason']})",
        f"run folder   {folder}",
        f"tensorboard  tensorboard --logdir {logdir}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def short_path(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


def remove_if_empty(folder: Path) -> None:
    """Take back the folder that Hydra made for a run which did not start."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
