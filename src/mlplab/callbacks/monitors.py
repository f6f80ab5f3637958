"""Metrics of single updates: the loss of the latest batch, learning rate, gradient norm, weight norm."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn


class UpdateMonitor(Callback):
    """Log `batch/loss`, `lr`, `grad/norm` and `weights/l2_norm` every `every_n_updates` updates.

    `batch/loss` is the loss of one batch before its update: its jitter shows the noise of the batch size, which the
    epoch's mean `train/loss` hides. `grad/norm` is the L2 norm of that batch's gradient (after clipping).
    """

    def __init__(self, *, every_n_updates: int = 50) -> None:
        self.every_n_updates = every_n_updates
        self._unwritten: list[tuple[int, dict[str, Tensor]]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # fmt: skip
        updates, in_group = trainer.global_step, len(outputs["losses"])
        before = updates - in_group
        if before > 0 and updates // self.every_n_updates == before // self.every_n_updates:
            return
        parameters = list(pl_module.network.parameters())
        values = {
            "batch/loss": outputs["losses"][-1],
            "lr": torch.tensor(pl_module.learning_rate),
            "grad/norm": l2_norm([parameter.grad for parameter in parameters if parameter.grad is not None]),
            "weights/l2_norm": l2_norm([parameter.detach() for parameter in parameters]),
        }
        self._unwritten.append((updates, values))
        if pl_module.device.type == "cpu":
            self._write(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        """To the loggers. Reading a value holds up a GPU, where this waits until the epoch's updates are done."""
        for updates, values in self._unwritten:
            for logger in trainer.loggers:
                logger.log_metrics({name: value.item() for name, value in values.items()}, step=updates)
        self._unwritten.clear()


def l2_norm(tensors: list[Tensor]) -> Tensor:
    """The L2 norm () over all elements of all tensors."""
    return nn.utils.get_total_norm(tensors) if tensors else torch.zeros(())
