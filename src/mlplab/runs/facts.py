"""What a run says of itself: the values of result.json, its line in TensorBoard's HParams, the final table."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from rich.console import Console
from rich.table import Table

from mlplab.callbacks.base import measured
from mlplab.callbacks.tensorboard import table
from mlplab.files import now
from mlplab.runs.record import Record
from mlplab.signals import slurm_job

if TYPE_CHECKING:
    from mlplab.runs.build import Training

VERSIONS_OF = ("torch", "lightning", "torchmetrics", "hydra-core")


def facts(training: "Training", overrides: Sequence[str]) -> dict[str, Any]:
    """What is known of a run before it starts."""
    data = training.data
    return {
        "status": "running",
        "started": now(),
        "metrics": {},
        "seed": training.settings["seed"],
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "steps_per_execution": data.group_size,
        "samples": {split: len(dataset) for split, dataset in data.datasets.items()},
        "parameters": sum(parameter.numel() for parameter in training.classifier.parameters()),
        "overrides": list(overrides),
        "command": " ".join(["train.py", *overrides]),
        "git_commit": git_commit(),
        "slurm_job": slurm_job(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF},
        "hardware": hardware(),
        "test_evaluations": [],
        "error": None,
    }


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


def hyperparameters(settings: dict[str, Any], data: Any, overrides: Sequence[str]) -> dict[str, str | int | float]:
    """The columns of TensorBoard's HParams tab: the same names and types in every run of a sweep, never None."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    typed = {key: value for key, _, value in pairs}
    chosen = (dict(HydraConfig.get().runtime.choices) if HydraConfig.initialized() else {}) | typed
    model, optimizer, dropout = settings["model"], settings["optimizer"], settings["model"].get("dropout") or 0.0
    columns: dict[str, str | int | float] = {
        group: str(chosen.get(group, "")) for group in ("model", "data", "regularization", "optimizer", "scheduler")
    }
    columns |= {
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "train_size": len(data.datasets["train"]),
        "lr": float(optimizer["lr"]),
        "weight_decay": float(optimizer.get("weight_decay", 0.0)),
        "dropout": sum(dropout) / len(dropout) if isinstance(dropout, list) else float(dropout),
        "label_smoothing": float(settings["loss"].get("label_smoothing", 0.0)),
        "hidden_sizes": str(model.get("hidden_sizes", "")),
        "seed": settings["seed"],
    }
    # The rest as text: 0.5 in one run and [0.2,0.5] in the next keep one type.
    return {key: value for key, value in typed.items() if key not in IN_A_COLUMN} | columns


def overrides_of_hydra() -> list[str]:
    """What Hydra was started with, of this job only in a multirun."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def hardware() -> str:
    """What the run was computed on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}"
    return f"{torch.multiprocessing.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} thread(s)"


def git_commit() -> str | None:
    """The commit of the code, with "+changes" where code or configs differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        options: Any = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": False}
        return subprocess.run(["git", *arguments], **options).stdout.strip()

    try:
        commit = git("rev-parse", "--verify", "--quiet", "HEAD")
        return (
            commit + ("+changes" if git("status", "--porcelain", "--", ":/src", ":/conf") else "") if commit else None
        )
    except OSError:
        return None


def show(record: Record) -> None:
    """Print the scores, the run folder, and what to type next."""
    values, metrics, console = record.values, record.values["metrics"], Console()
    scores = Table("split", show_edge=False, pad_edge=False)
    for title in ("loss", "accuracy"):
        scores.add_column(title, justify="right")
    for split, title in (("train", "training (last epoch)"), ("val", "validation (last epoch)"),
                         ("test", "test (best checkpoint)")):  # fmt: skip
        if f"{split}/acc" in metrics:
            scores.add_row(title, f"{metrics[f'{split}/loss']:.4g}", f"{metrics[f'{split}/acc']:.2%}")
    console.print("", scores, "", sep="\n")
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
