"""What the terminal shows of a run: the network, then a progress bar, or plain lines where there is no terminal."""

import logging
import os
import sys
from time import monotonic
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from mlplab.callbacks.base import moments_passed
from mlplab.config.keys import require
from mlplab.models.loops import planned_updates

log = logging.getLogger(__name__)

SCORES = ("train/loss", "val/loss", "val/acc")
WIDE = 110
"""Columns of a terminal from which on there is room for all SCORES beside the bar, not only for the last."""


class ProgressBar(pl.callbacks.ProgressBar):
    """One bar for the whole run in a terminal, one line in a notebook; elsewhere about ten plain lines in all.

    The bar shows updates and their rate, which mean the same at every batch size, and is drawn at most
    `draws_per_second` times a second, so that it neither flickers nor costs much when updates are short.
    """

    def __init__(self, *, draws_per_second: float = 4) -> None:
        super().__init__()
        require("callbacks.progress_bar.draws_per_second", draws_per_second)
        self.pause = 1 / draws_per_second
        self.in_notebook = "ipykernel" in sys.modules
        self.is_enabled = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bar: Progress | None = None
        self._drawn_at, self._lines_done = 0.0, -1

    def disable(self) -> None:
        self.is_enabled = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_enabled:
            self._bar = Progress(
                "{task.description}", BarColumn(bar_width=10), "{task.fields[updates]}",
                TimeRemainingColumn(compact=True), "{task.fields[scores]}",
                console=Console(stderr=True), transient=True, auto_refresh=False,
            )  # fmt: skip
            self._bar.add_task("", total=planned_updates(trainer), completed=trainer.global_step, updates="", scores="")
            self._draw(trainer, self._bar)
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None and monotonic() - self._drawn_at >= self.pause:
            self._draw(trainer, self._bar)

    def _draw(self, trainer: pl.Trainer, bar: Progress) -> None:
        (task,), updates, total = bar.tasks, trainer.global_step, planned_updates(trainer)
        bar.update(task.id, completed=updates)
        made = f"{updates:,}/{total:,}" if total else f"{updates:,}"
        rate = f" {task.speed:,.1f} updates/s" if task.speed is not None else ""
        shown = scores(trainer, SCORES if bar.console.width >= WIDE else SCORES[-1:])
        bar.update(task.id, description=epoch_of(trainer), updates=made + rate, scores=shown)
        bar.refresh()
        self._drawn_at = monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        updates, moments = trainer.global_step, moments_passed(trainer, trainer.global_step)
        is_over = updates == planned_updates(trainer)
        is_due = moments > self._lines_done or is_over
        if self.in_notebook and (is_over or monotonic() - self._drawn_at >= self.pause):
            self._drawn_at = monotonic()
            print(f"\r{line_of(trainer)}", end="", flush=True)
        elif is_due and trainer.is_global_zero and not self.is_enabled and not self.in_notebook:
            self._lines_done = moments
            log.info(line_of(trainer))

    def stop(self, *_: Any, **__: Any) -> None:
        """Take the bar away, or end the notebook's line."""
        if self.in_notebook:
            print()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    on_train_end = on_exception = stop


def line_of(trainer: pl.Trainer) -> str:
    """How far a run has come, and how it fares."""
    return f"{epoch_of(trainer)}  update {trainer.global_step}  {scores(trainer, SCORES)}"


def scores(trainer: pl.Trainer, names: tuple[str, ...]) -> str:
    """The latest values of those metrics that are known yet."""
    known = trainer.callback_metrics
    return "  ".join(f"{name} {float(known[name]):.4f}" for name in names if name in known)


def epoch_of(trainer: Any) -> str:
    """The epoch of the latest update, and the last one planned."""
    total, per_epoch = planned_updates(trainer), trainer.datamodule.updates_per_epoch
    return f"epoch {-(-max(1, trainer.global_step) // per_epoch)}/{-(-total // per_epoch) if total else '∞'}"


class NetworkSummary(Callback):
    """Print the network and the number of its parameters before training."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            number = sum(weight.numel() for weight in pl_module.network.parameters())
            print(pl_module.network, f"{number:,} parameters\n", sep="\n")
