"""What default figures cost a run: training with them and without, in turn."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra import compose
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from mlplab import build

JOBS: dict[str, tuple[str, ...]] = {
    "passing, 50 epochs at batch 32": (),
    "CIFAR-10 shape, 10 epochs of 20,000 images at batch 128": (
        "data=noise_images", "data.num_samples=26000", "model=mlp_dropout", "model.hidden_sizes=[256,128]",
        "data.batch_size=128", "trainer.max_epochs=10",
    ),
}  # fmt: skip
WITHOUT = ("figures=none", "~callbacks.layers", "callbacks.tensorboard.num_embedded=0")
"""Overrides that leave out figures, what is measured for them alone, and the projector."""


@dataclasses.dataclass
class Cost:
    """CPU seconds, which other processes disturb less than the clock: of training, and of what comes after it."""

    training: list[float] = dataclasses.field(default_factory=list)
    afterwards: list[float] = dataclasses.field(default_factory=list)


def figure_cost(config: DictConfig, scratch: Path) -> dict[str, dict[str, Any]]:
    """Job → {"with": …, "without": …}, the CPU seconds of each repetition."""
    costs: dict[str, dict[str, Any]] = {}
    for name, overrides in JOBS.items():
        pair = {"with": Cost(), "without": Cost()}
        for _ in range(config.repetitions):
            for kind, cost in pair.items():
                more = WITHOUT if kind == "without" else ()
                folder = tempfile.mkdtemp(dir=scratch)
                training, afterwards = fit([*overrides, *more, f"trainer.accelerator={config.accelerator}"], folder)
                cost.training.append(training)
                cost.afterwards.append(afterwards)
        costs[name] = {kind: dataclasses.asdict(cost) for kind, cost in pair.items()}
    return costs


def fit(overrides: Sequence[str], folder: str) -> tuple[float, float]:
    """CPU seconds of training, and of what is done after it."""
    config = compose("train", [*overrides, "~callbacks.network_summary", "compile=false", f"folder={folder}"])
    data = build.data_module(config)
    classifier = build.classifier(config, data)
    build.set_threads(config, classifier)
    trainer, clock = build.trainer(config, data), TrainingClock()
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(clock)
    trainer.fit(classifier, datamodule=data)
    return clock.end - clock.start, time.process_time() - clock.end


class TrainingClock(Callback):
    """When training began and ended, in CPU seconds."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.process_time()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.end = time.process_time()
