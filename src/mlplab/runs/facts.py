"""What a run says of itself: the values of result.json, its line in TensorBoard's HParams, the final table."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from mlplab.callbacks.base import measured
from mlplab.callbacks.tensorboard import table
from mlplab.files import now
from mlplab.runs.record import Record
from mlplab.runs.resume import slurm_job

VERSIONS_OF = ("torch", "lightning", "torchmetrics", "hydra-core")


def facts(config: DictConfig, data: Any, network: torch.nn.Module) -> dict[str, Any]:
    """What is known of a run before it starts."""
    return {
        "status": "running",
        "started": now(),
        "metrics": {},
        "seed": config.seed,
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "steps_per_execution": data.group_size,
        "samples": {split: len(dataset) for split, dataset in data.datasets.items()},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "overrides": overrides(),
        "command": " ".join([Path(sys.argv[0]).name, *overrides()]),
        "git_commit": git_commit(),
        "slurm_job": slurm_job(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF},
        "hardware": hardware(),
        "test_evaluations": [],
        "error": None,
    }


def progress(trainer: pl.Trainer, data: Any) -> dict[str, int]:
    """How far training has come."""
    updates = trainer.global_step
    epochs = updates // data.updates_per_epoch
    return {"updates": updates, "epochs": epochs, "samples_seen": data.samples_seen(updates)}


def metrics_of(trainer: pl.Trainer) -> dict[str, float]:
    """The latest value of every metric, and the best of the monitored one."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = trainer.checkpoint_callback
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        metrics[f"best/{checkpoint.monitor}"] = float(checkpoint.best_model_score)
    return metrics


def fit_seconds(trainer: pl.Trainer, elapsed: float) -> float:
    """Seconds of training in all launches of a run, without what is drawn after it, of which `elapsed` were in this.

    Without a history, which notes when training has ended, what is drawn counts.
    """
    seen = measured(trainer)
    return seen.seconds_before + elapsed if seen.ended is None else seen.seconds


def looks_during_training(trainer: pl.Trainer) -> list[str]:
    """When this launch evaluated the test set before the end of training: never, but for a study of early stopping."""
    return measured(trainer).looks


def best_checkpoint(trainer: pl.Trainer) -> str | None:
    """The path of the checkpoint with the best monitored metric, None without one."""
    checkpoint = trainer.checkpoint_callback
    return (checkpoint.best_model_path or None) if isinstance(checkpoint, ModelCheckpoint) else None


def stop_reason(trainer: pl.Trainer) -> str:
    """Why training ended, in words."""
    for callback in trainer.early_stopping_callbacks:
        if callback.wait_count >= callback.patience:
            return f"early stopping after epoch {callback.stopped_epoch + 1}: no better {callback.monitor}"
    if reason := measured(trainer).stop_reason:
        return reason
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "trainer.max_time reached"
    if trainer.max_steps >= 0 and trainer.global_step >= trainer.max_steps:
        return f"trainer.max_steps={trainer.max_steps} reached"
    return f"trainer.max_epochs={trainer.max_epochs} reached"


IN_A_COLUMN = (
    "data.batch_size", "data.train_size", "optimizer.lr", "optimizer.weight_decay", "loss.label_smoothing",
    "model.hidden_sizes",
)  # fmt: skip
"""Keys whose values have a column of the HParams tab under their last part, and need none for being typed."""


def hyperparameters(config: DictConfig, data: Any) -> dict[str, str | int | float]:
    """The columns of TensorBoard's HParams tab: the same names and types in every run of a sweep, never None."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    dropout = config.model.get("dropout", 0.0) or 0.0
    columns: dict[str, str | int | float] = {
        group: str(choices.get(group, "")) for group in ("model", "data", "regularization", "optimizer", "scheduler")
    }
    columns |= {
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "train_size": len(data.datasets["train"]),
        "lr": float(config.optimizer.lr),
        "weight_decay": float(config.optimizer.get("weight_decay", 0.0)),
        "dropout": float(dropout) if isinstance(dropout, int | float) else float(sum(dropout) / len(dropout)),
        "label_smoothing": float(config.loss.get("label_smoothing", 0.0)),
        "hidden_sizes": str(config.model.get("hidden_sizes", "")),
        "seed": config.seed,
    }
    for override in overrides():
        key, _, value = override.lstrip("+~").partition("=")
        if key not in IN_A_COLUMN:
            columns.setdefault(key, value)  # as text: 0.5 in one run and [0.2,0.5] in the next keep one type
    return columns


def overrides() -> list[str]:
    """What was set on the command line, of this job only in a multirun."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def hardware() -> str:
    """What the run was computed on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}"
    return f"{torch.multiprocessing.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} thread(s)"


def git_commit() -> str | None:
    """The commit of the code, with "+changes" where code or configs differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None

    def run(*arguments: str) -> str:
        return subprocess.run(
            [git, *arguments], cwd=Path(__file__).parent, capture_output=True, text=True
        ).stdout.strip()  # fmt: skip

    commit = run("rev-parse", "--verify", "--quiet", "HEAD")
    return (commit + ("+changes" if run("status", "--porcelain", "--", ":/src", ":/conf") else "")) if commit else None


def show(record: Record) -> None:
    """Print the scores, the run folder, and what to type next."""
    values, metrics, console = record.values, record.values["metrics"], Console()
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("split")
    table.add_column("loss", justify="right")
    table.add_column("accuracy", justify="right")
    for split, label in (
        ("train", "training (last epoch)"),
        ("val", "validation (last epoch)"),
        ("test", "test (best checkpoint)"),
    ):
        if f"{split}/acc" in metrics:
            table.add_row(label, f"{metrics[f'{split}/loss']:.4g}", f"{metrics[f'{split}/acc']:.2%}")
    console.print()
    console.print(table)
    console.print()
    folder = short_path(record.folder)
    for line in (
        f"{values['updates']:,} updates in {values['epochs']} epochs, {values['fit_seconds']:.1f} s"
        f" ({values['stop_reason']})",
        f"run folder   {folder}",
        f"tensorboard  tensorboard --logdir {folder if folder.is_absolute() else folder.parts[0]}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def markdown(record: Record) -> str:
    """The scores and how training went, as a table for TensorBoard."""
    values = record.values
    rows = sorted((name, f"{value:.4f}") for name, value in values["metrics"].items())
    rows += [(name, str(values[name])) for name in ("updates", "epochs", "samples_seen", "stop_reason", "hardware")]
    return table([*rows, ("fit_seconds", f"{values['fit_seconds']:.1f}")], header=("result", ""))


def short_path(path: Path) -> Path:
    """Relative to the current folder where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
