"""Stops a run that cannot come to anything, or that a search does not think promising."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mlplab.callbacks.base import measured
from mlplab.errors import RunFailed


class Diverged(RunFailed):
    """The loss, or what else `what` names, is not a finite number any more."""

    def __init__(self, what: str) -> None:
        super().__init__(f"diverged: {what}; lower optimizer.lr, or set trainer.gradient_clip_val=1")


class StopOnDivergence(Callback):
    """Raise Diverged, naming the update, at the first loss that is NaN or infinite.

    On the CPU every group of updates is checked; on other devices the losses are kept there and read once per epoch,
    before validation and before anything is saved, since each reading would hold up the device.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[int, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        losses = outputs["losses"]
        self._unread.append((trainer.global_step - len(losses), losses))
        if losses.device.type == "cpu":
            self.check()

    def check(self, *_: Any, **__: Any) -> None:
        """Read the losses that have not been read."""
        unread, self._unread = self._unread, []
        if unread and not (finite := torch.cat([losses for _, losses in unread]).isfinite()).all():
            update = unread[0][0] + int(finite.logical_not().nonzero()[0]) + 1
            raise Diverged(f"the loss of update {update} is not a finite number")

    on_validation_start = on_train_epoch_end = on_save_checkpoint = check


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's, but the look at the end of a run counts only where a longer run would look as well."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.is_due:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.is_due:
            super().on_train_epoch_end(trainer, pl_module)


class Pruning(Callback):
    """Report `monitor` to the Optuna trial after each validation, and stop training where the trial says so.

    Optuna compares trials at the same step: the number of epochs, after which trials of different batch sizes have
    seen as many samples, however often they were validated. Of several validations in an epoch each is a step.
    """

    def __init__(self, trial: Any, *, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self.validations = self.step = 0
        self.stop_reason: str | None = None

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        self.validations += 1
        self.step = max(self.step + 1, trainer.global_step // trainer.datamodule.updates_per_epoch)
        value = float(trainer.callback_metrics[self.monitor])
        self.trial.report(value, step=self.step)
        if self.stop_reason is None and self.trial.should_prune():
            trainer.should_stop = True
            self.stop_reason = f"pruned after {self.validations} validations: {self.monitor} {value:.4f}"
            measured(trainer).stop_reason = self.stop_reason
