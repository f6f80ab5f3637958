"""Loss and accuracy of a split besides validation over the course of training, for studies that need them."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mlplab.config.rules import one_of
from mlplab.files import now

NAMES = {
    "test": ("test/loss", "test/acc"),
    "train": ("fitted/loss", "fitted/acc", "gap/fitted/acc"),
}
"""Split → the columns that it adds to history.csv."""


class SplitCurve(Callback):
    """Evaluate a split at each validation; the history notes it. Training is the same with and without it.

    `split="test"` gives `test/loss` and `test/acc`: what a test set would have said of every epoch. Each look is
    counted in result.json's `test_evaluations`. Use it where the question is about the test set itself.

    `split="train"` gives `fitted/loss` and `fitted/acc`: the training samples at the weights of that moment, without
    dropout and augmentation, where `train/acc` is with both and the mean over an epoch. `gap/fitted/acc` is
    `fitted/acc` − `val/acc`.
    """

    def __init__(self, *, split: str) -> None:
        one_of(*NAMES).require("split", split)
        self.split, self.names = split, NAMES[split]
        self.measured_at: int | None = None
        self.latest: dict[str, float] = {}
        self.looks: list[str] = []  # times at which this launch evaluated the test set

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        loss, acc = self.evaluate(trainer, pl_module)
        values = [loss, acc]
        if self.split == "train":
            values.append(acc - float(trainer.callback_metrics["val/acc"]))
        else:
            self.looks.append(now())
        self.measured_at, self.latest = trainer.global_step, dict(zip(self.names, values, strict=True))

    def evaluate(self, trainer: pl.Trainer, pl_module: Any) -> tuple[float, float]:
        """Mean loss and accuracy of the split at the current weights; the network is in evaluation mode by now."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.datasets[self.split]
        loss_sum = correct = 0.0
        with torch.inference_mode():
            for indices in dataset.indices.split(data.eval_batch_size):
                features = data.preprocess(dataset.features[indices].to(pl_module.device))
                labels = dataset.labels[indices].to(pl_module.device)
                logits = pl_module.network(features)
                loss_sum += float(pl_module.loss(logits, labels)) * len(labels)
                predicted = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
                correct += float((predicted == labels).sum())
        return loss_sum / len(dataset), correct / len(dataset)
