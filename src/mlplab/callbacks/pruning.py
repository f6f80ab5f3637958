"""Lets a search give up a run that does not look promising."""

from typing import Protocol

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class Trial(Protocol):
    """What an Optuna trial is asked for."""

    def report(self, value: float, step: int) -> None: ...

    def should_prune(self) -> bool: ...


class Pruning(Callback):
    """Report `monitor` to the trial after each validation, and stop training where the trial says so.

    Validations are counted from 1: after as many of them, trials of different batch sizes have seen as many samples.
    """

    def __init__(self, trial: Trial, *, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self.validations = 0
        self.stop_reason: str | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.validations += 1
        value = float(trainer.callback_metrics[self.monitor])
        self.trial.report(value, step=self.validations)
        if self.stop_reason is None and self.trial.should_prune():
            self.stop_reason = f"pruned after {self.validations} validations: {self.monitor} {value:.4f}"
            trainer.should_stop = True
