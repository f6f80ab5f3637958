"""Stops a run that cannot come to anything."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from mlplab.errors import ConfigError, RunFailed, did_you_mean


class Diverged(RunFailed):
    """The loss is not a finite number any more."""


class StopOnDivergence(Callback):
    """Raise Diverged, naming the update, at the first loss that is NaN or infinite.

    On the CPU every group of updates is checked; on other devices the losses are kept there and read once per epoch,
    before validation and before anything is saved, since each reading would hold up the device.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[int, torch.Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:  # fmt: skip
        losses = outputs["losses"]
        self._unread.append((trainer.global_step - len(losses), losses))
        if losses.device.type == "cpu":
            self._read()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._read()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._read()

    def _read(self) -> None:
        if not self._unread:
            return
        first = self._unread[0][0]
        finite = torch.cat([losses for _, losses in self._unread]).isfinite()
        self._unread.clear()
        if not finite.all():
            update = first + int(finite.logical_not().nonzero()[0]) + 1
            raise Diverged(
                f"diverged: the loss of update {update} is not a finite number; "
                "lower optimizer.lr, or set trainer.gradient_clip_val=1"
            )


class RequireMonitors(Callback):
    """Raise ConfigError after the first validation pass if a callback follows a metric that nobody logs."""

    ALSO_LOGGED = ("train/loss", "train/acc", "gap/loss", "gap/acc")

    def __init__(self) -> None:
        self._checked = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(trainer, {*trainer.callback_metrics, *self.ALSO_LOGGED})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Where there is no validation; the module logs its training metrics right after this hook.
        self._check(trainer, {*trainer.callback_metrics, "train/loss", "train/acc"})

    def _check(self, trainer: pl.Trainer, known: set[str]) -> None:
        if self._checked:
            return
        self._checked = True
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = callback.monitor if isinstance(callback, EarlyStopping | ModelCheckpoint) else None
            if monitor is not None and monitor not in known:
                raise ConfigError(
                    f"{type(callback).__name__} monitors {monitor!r}, which is never logged"
                    f"{did_you_mean(monitor, known)}; there are: {', '.join(sorted(known))}"
                )
