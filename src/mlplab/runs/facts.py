"""What a run says of itself: the values of result.json, its line in TensorBoard's HParams, the final table."""

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from rich.console import Console
from rich.table import Column, Table

from mlplab.callbacks.base import measured, stopped_early
from mlplab.cluster import slurm_job
from mlplab.data.module import DataModule
from mlplab.files import now
from mlplab.models.loops import may_stop
from mlplab.runs.folders import short_path
from mlplab.runs.record import Record

VERSIONS_OF = ("torch", "lightning", "torchmetrics", "hydra-core")
TITLES = {"train": "training", "val": "validation", "test": "test"}


def facts(
    data: DataModule, network: torch.nn.Module, *, seed: int, overrides: Sequence[str], device: torch.device
) -> dict[str, Any]:  # fmt: skip
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
        "command": shlex.join(["train.py", *overrides]),
        "git_commit": git_commit(),
        "slurm_job": slurm_job(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF},
        "hardware": hardware(device),
        "test_evaluations": [],
        "error": None,
    }


def progress(trainer: Any, data: DataModule) -> dict[str, Any]:
    """How far a run has come: the latest value of every metric, and the best of the monitored one, among others.

    `measured_after` says after how many updates the metrics of a split were measured.
    """
    metrics, best = {name: float(value) for name, value in trainer.callback_metrics.items()}, None
    checkpoint, updates = trainer.checkpoint_callback, trainer.global_step
    best_after = getattr(checkpoint, "best_after", None)
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        metrics[f"best/{checkpoint.monitor}"] = float(checkpoint.best_model_score)
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_path:
        best = os.path.relpath(checkpoint.best_model_path, trainer.default_root_dir)
    return {
        "updates": updates,
        "epochs": updates // data.updates_per_epoch,
        "samples_seen": data.samples_seen(updates),
        "metrics": metrics,
        "measured_after": trainer.lightning_module.reported_after,
        "best_checkpoint": best,
        "best_epoch": best_after and best_after / data.updates_per_epoch,
        "fit_seconds": measured(trainer).seconds,
    }


def stop_reason(trainer: Any) -> str:
    """Why training ended, in words."""
    updates, data, early = trainer.global_step, trainer.datamodule, stopped_early(trainer)
    if early and may_stop(trainer):
        looks = ("validation" if len(data.datasets["val"]) else "epoch") + "s" * (early.wait_count > 1)
        why = {
            EarlyStoppingReason.STOPPING_THRESHOLD: f"{early.monitor} has reached {early.stopping_threshold}",
            EarlyStoppingReason.DIVERGENCE_THRESHOLD: f"{early.monitor} is worse than {early.divergence_threshold}",
            EarlyStoppingReason.NON_FINITE_METRIC: f"{early.monitor} is not a finite number",
        }.get(early.stopping_reason, f"no better {early.monitor} in {early.wait_count} {looks}")
        return f"early stopping after epoch {-(-updates // data.updates_per_epoch)}: {why}"
    if reason := measured(trainer).stop_reason:
        return reason
    if 0 <= trainer.max_steps <= updates:
        return f"trainer.max_steps={trainer.max_steps} reached"
    max_epochs = trainer.max_epochs * data.span
    if 0 <= max_epochs * data.updates_per_epoch <= updates:
        return f"trainer.max_epochs={max_epochs} reached"
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
    is_over = any((timer.time_remaining() or 0) <= 0 for timer in timers)
    return "trainer.max_time reached" if is_over else "a callback asked for it"


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


def hardware(device: torch.device) -> str:
    """What a run on this device is computed on."""
    if device.type == "cuda":
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
    values, folder = record.values, short_path(record.folder)
    logs = folder if folder.is_absolute() else Path(*folder.parts[:1])
    after, per_epoch = values["measured_after"], values["updates_per_epoch"]
    tested = ("best", values["best_epoch"]) if values["best_checkpoint"] else ("last", values["updates"] / per_epoch)
    rows = [(f"{TITLES[split]} (last epoch)", after.get(split, 0) / per_epoch, split) for split in ("train", "val")]
    if values["best_checkpoint"] and values["best_epoch"] != rows[1][1]:
        rows.append((f"{TITLES['val']} (best checkpoint)", values["best_epoch"], "best/val"))
    rows.append((f"{TITLES['test']} ({tested[0]} checkpoint)", tested[1], "test"))
    console = Console()
    console.print("", score_table(rows, values["metrics"]), "", sep="\n")
    has_figures = (folder / "figures").is_dir()
    lines = {"run folder": str(folder)} | ({"figures": str(folder / "figures")} if has_figures else {})
    if (folder / "tensorboard").is_dir():
        lines["tensorboard"] = shlex.join(["tensorboard", "--logdir", str(logs)])
    if not has_figures:  # else the page is written, and named, next
        lines["report"] = shlex.join(["python", "scripts/report.py", str(folder)])
    epochs = f"{values['epochs']} epoch{'s' * (values['epochs'] != 1)}"
    done = f"{values['updates']:,} updates in {epochs}, {values['fit_seconds']:.1f} s"
    told = [f"{name:12} {line}" for name, line in lines.items()]
    console.print(f"{done} ({values['stop_reason']})", *told, sep="\n", highlight=False, markup=False, soft_wrap=True)


def score_table(rows: Sequence[tuple[str, float | None, str]], metrics: Mapping[str, float]) -> Table:
    """Loss and accuracy of splits, where they are known: rows of a title, an epoch and the name of the split."""
    columns = (Column(title, justify="right") for title in ("epoch", "loss", "accuracy"))
    table = Table("split", *columns, show_edge=False, pad_edge=False)
    for title, epoch, split in rows:
        loss, accuracy = (metrics.get(f"{split}/{name}") for name in ("loss", "acc"))
        values = (epoch, ".4g"), (loss, ".4g"), (accuracy, ".2%")
        if (loss, accuracy) != (None, None):
            table.add_row(title, *("" if value is None else format(value, form) for value, form in values))
    return table
