"""What default figures cost a run: training with them and without, in turn."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from hydra import compose
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig

from mlplab.callbacks.figures import Figures
from mlplab.callbacks.layers import LayerMonitor
from mlplab.callbacks.tensorboard import TensorBoardExtras
from mlplab.runs import build

JOBS: dict[str, tuple[str, ...]] = {
    "passing, 50 epochs at batch 32": (),
    "CIFAR-10 shape, 10 epochs of 20,000 images at batch 128": (
        "data=noise_images", "data.num_samples=26000", "model=mlp_dropout", "model.hidden_sizes=[256,128]",
        "data.batch_size=128", "trainer.max_epochs=10",
    ),
}  # fmt: skip
WITHOUT = ("figures=none", "~callbacks.layers", "callbacks.tensorboard.num_embedded=0")
"""Overrides that leave out figures, what is measured for them alone, and the projector."""


WATCHED = (Figures, LayerMonitor, TensorBoardExtras)
"""The callbacks whose hooks are timed."""


def figure_cost(config: DictConfig, scratch: Path) -> dict[str, dict[str, Any]]:
    """Job → {"with": …, "without": …} → what `fit` measured, in each repetition.

    The two take turns in being first, after a pair of runs that is not counted.
    """
    costs: dict[str, dict[str, Any]] = {}
    for name, overrides in JOBS.items():
        runs: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
        for repetition in range(config.repetitions + 1):
            for kind in sorted(runs, reverse=repetition % 2 == 1):
                more = WITHOUT if kind == "without" else ()
                folder = tempfile.mkdtemp(dir=scratch)
                runs[kind].append(fit([*overrides, *more, f"trainer.accelerator={config.accelerator}"], folder))
        costs[name] = {kind: {key: [run[key] for run in done[1:]] for key in done[0]} for kind, done in runs.items()}
    return costs


def fit(overrides: Sequence[str], folder: str) -> dict[str, float]:
    """CPU seconds, which other processes disturb less than the clock, of `training` and of what is done `afterwards`;
    and the share of the training's time that passes `in_hooks` of the callbacks watched."""
    config = compose("train", [*overrides, "~callbacks.network_summary", "compile=false", f"folder={folder}"])
    data = build.data_module(config)
    classifier = build.classifier(config, data)
    build.set_threads(config, classifier)
    trainer = build.trainer(config, data)
    trainer.profiler = profiler = SimpleProfiler()  # type: ignore[attr-defined]
    clock = TrainingClock(profiler)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(clock)
    trainer.fit(classifier, datamodule=data)
    start, end = clock.start, clock.end
    return {
        "training": end.cpu_seconds - start.cpu_seconds,
        "afterwards": time.process_time() - end.cpu_seconds,
        "in_hooks": (end.in_hooks - start.in_hooks) / (end.seconds - start.seconds),
    }


class Moment(NamedTuple):
    """Seconds, CPU seconds, and of the seconds those that have passed in the hooks watched."""

    seconds: float
    cpu_seconds: float
    in_hooks: float


class TrainingClock(Callback):
    """The moments at which training began and ended; the last of the callbacks, so that it sees the others' hooks."""

    def __init__(self, profiler: SimpleProfiler) -> None:
        self.profiler = profiler

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = self._now()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.end = self._now()

    def _now(self) -> Moment:
        hooks = tuple(f"[Callback]{watched.__name__}" for watched in WATCHED)
        recorded = self.profiler.recorded_durations.items()
        in_hooks = sum(sum(durations) for action, durations in recorded if action.startswith(hooks))
        return Moment(time.perf_counter(), time.process_time(), in_hooks)
