"""What a run says of itself: the values of result.json, its line in TensorBoard's HParams, the final table."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from rich.console import Console
from rich.table import Column, Table

from mlplab.callbacks.base import measured
from mlplab.data.module import DataModule
from mlplab.files import now
from mlplab.runs.record import Record
from mlplab.signals import slurm_job

VERSIONS_OF = ("torch", "lightning", "torchmetrics", "hydra-core")


def facts(data: DataModule, network: torch.nn.Module, *, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """What is known of a run before it starts."""
    train = data.datasets["train"]
    return {
        "status": "running",
        "started": now(),
        "metrics": {},
        "seed": seed,
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "steps_per_execution": data.group_size,
        "samples": {split: len(dataset) for split, dataset in data.datasets.items()},
        "majority_share": train.labels[train.indices].bincount().max().item() / len(train),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "overrides": list(overrides),
        "command": " ".join(["train.py", *overrides]),
        "git_commit": git_commit(),
        "slurm_job": slurm_job(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF},
        "hardware": hardware(),
        "test_evaluations": [],
        "error": None,
    }


def progress(trainer: Any, data: DataModule) -> dict[str, Any]:
    """How far a run has come: the latest value of every metric, and the best of the monitored one, among others."""
    metrics, best = {name: float(value) for name, value in trainer.callback_metrics.items()}, None
    checkpoint, updates = trainer.checkpoint_callback, trainer.global_step
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        metrics[f"best/{checkpoint.monitor}"] = float(checkpoint.best_model_score)
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_path:
        best = os.path.relpath(checkpoint.best_model_path, trainer.default_root_dir)
    return {
        "updates": updates,
        "epochs": updates // data.updates_per_epoch,
        "samples_seen": data.samples_seen(updates),
        "metrics": metrics,
        "best_checkpoint": best,
        "fit_seconds": measured(trainer).seconds,
    }


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


def hyperparameters(settings: dict[str, Any], data: Any, overrides: Sequence[str]) -> dict[str, str | int | float]:
    """The columns of TensorBoard's HParams tab: the same names and types in every run of a sweep, never None."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    typed = {key: value for key, _, value in pairs}
    chosen = (dict(HydraConfig.get().runtime.choices) if HydraConfig.initialized() else {}) | typed
    groups = ("model", "data", "regularization", "optimizer", "scheduler")
    columns: dict[str, Any] = {group: str(chosen.get(group, "")) for group in groups} | {
        "batch_size": data.batch_size,
        "updates_per_epoch": data.updates_per_epoch,
        "train_size": len(data.datasets["train"]),
        "lr": float(settings["optimizer"]["lr"]),
        "weight_decay": float(settings["optimizer"].get("weight_decay", 0.0)),
        "label_smoothing": float(settings["loss"].get("label_smoothing", 0.0)),
        "hidden_sizes": str(settings["model"].get("hidden_sizes", "")),
        "seed": settings["seed"],
    }
    columns |= {key: value for key, value in typed.items() if key.rpartition(".")[2] not in columns}
    # What was typed is text; of dropout, which may be a list, the mean is beside it.
    dropout = settings["model"].get("dropout") or 0.0
    return columns | {"dropout": sum(dropout) / len(dropout) if isinstance(dropout, list) else float(dropout)}


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
    options: Any = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
    try:
        commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], **options).stdout.strip()
        changes = subprocess.run(["git", "status", "--porcelain", "--", ":/src", ":/conf"], **options).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def show(record: Record) -> None:
    """Print the scores, the run folder, and what to type next."""
    values, metrics, console = record.values, record.values["metrics"], Console()
    columns = (Column(title, justify="right") for title in ("loss", "accuracy"))
    scores = Table("split", *columns, show_edge=False, pad_edge=False)
    titles = {"train": "training (last epoch)", "val": "validation (last epoch)", "test": "test (best checkpoint)"}
    for split, title in titles.items():
        if f"{split}/acc" in metrics:
            scores.add_row(title, f"{metrics[f'{split}/loss']:.4g}", f"{metrics[f'{split}/acc']:.2%}")
    folder = short_path(record.folder)
    lines = (
        f"{values['updates']:,} updates in {values['epochs']} epochs, {values['fit_seconds']:.1f} s"
        f" ({values['stop_reason']})",
        f"run folder   {folder}",
        f"tensorboard  tensorboard --logdir {folder if folder.is_absolute() else folder.parts[0]}",
    )
    console.print("", scores, "", sep="\n")
    console.print(*lines, sep="\n", highlight=False, soft_wrap=True)


def short_path(path: Path) -> Path:
    """Relative to the current folder where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
