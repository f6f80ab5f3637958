"""What the terminal shows of a run: the network, then a progress bar, or plain lines where there is no terminal."""

import logging
import os
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from mlplab.callbacks.moments import moments_passed, planned_updates, updates_per_epoch
from mlplab.config.rules import number

log = logging.getLogger(__name__)

SCORES = ("train/loss", "val/loss", "val/acc")
WIDE = 110
"""Columns of a terminal from which on there is room for all SCORES beside the bar, not only for the last."""


class ProgressBar(pl.callbacks.ProgressBar):
    """One bar for the whole run in a terminal; in a file or a pipe plain lines, about `lines_without_terminal` in all.

    The bar shows updates and their rate, which mean the same at every batch size, and is drawn at most
    `draws_per_second` times a second, so that it neither flickers nor costs much when updates are short.
    """

    def __init__(self, *, draws_per_second: float = 4, lines_without_terminal: int = 10) -> None:
        super().__init__()
        number(above=0).require("callbacks.progress_bar.draws_per_second", draws_per_second)
        self.pause, self.lines = 1 / draws_per_second, lines_without_terminal
        self.is_enabled = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bar: Progress | None = None
        self._scores: Sequence[str] = SCORES
        self._drawn_at, self._lines_done = 0.0, -1

    def disable(self) -> None:
        self.is_enabled = False

    def enable(self) -> None:
        self.is_enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_enabled:
            console = Console(stderr=True)
            self._scores = SCORES if console.width >= WIDE else SCORES[-1:]
            self._bar = Progress(
                text("{task.description}"), BarColumn(bar_width=24 if console.width >= WIDE else 10),
                text("{task.fields[updates]}"), Rate(), TimeRemainingColumn(compact=True),
                text("{task.fields[scores]}"), console=console, transient=True, auto_refresh=False,
            )  # fmt: skip
            self._bar.add_task("", total=planned_updates(trainer), completed=trainer.global_step, updates="", scores="")
            self._draw(trainer)
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None and monotonic() - self._drawn_at >= self.pause:
            self._draw(trainer)

    def _draw(self, trainer: pl.Trainer) -> None:
        assert self._bar is not None
        updates, total = trainer.global_step, planned_updates(trainer)
        self._bar.update(
            self._bar.task_ids[0], description=epoch_of(trainer), completed=updates,
            updates=f"{updates:,}/{total:,}" if total else f"{updates:,}", scores=scores(trainer, self._scores),
        )  # fmt: skip
        self._bar.refresh()
        self._drawn_at = monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_enabled or trainer.sanity_checking or not trainer.is_global_zero:
            return
        updates, total = trainer.global_step, planned_updates(trainer)
        passed = moments_passed(trainer, updates, count=self.lines)
        if updates == total or passed > self._lines_done:
            self._lines_done = passed
            log.info("%s  update %d  %s", epoch_of(trainer), updates, scores(trainer, SCORES))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Rate(ProgressColumn):
    """How many updates are made in a second."""

    def render(self, task: Task) -> Text:
        if task.speed is None:
            return Text("")
        return Text(f"{task.speed:,.0f} updates/s" if task.speed >= 10 else f"{task.speed:.1f} updates/s")


def text(template: str) -> TextColumn:
    """A column that never breaks into two lines, which would make the bar jump."""
    return TextColumn(template, table_column=Column(no_wrap=True))


def scores(trainer: pl.Trainer, names: Sequence[str]) -> str:
    """The latest values of those metrics that are known yet."""
    known = trainer.callback_metrics
    return "  ".join(f"{name} {float(known[name]):.4f}" for name in names if name in known)


def epoch_of(trainer: pl.Trainer) -> str:
    """The current epoch, and the last one planned."""
    total = planned_updates(trainer)
    return f"epoch {trainer.current_epoch + 1}/{-(-total // updates_per_epoch(trainer)) if total else '∞'}"


class NetworkSummary(Callback):
    """Print the network's layers with their parameters, at most `max_layers` of them, before training."""

    def __init__(self, *, max_layers: int = 12) -> None:
        self.max_layers = max_layers

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        network = pl_module.network
        layers = [
            (name, module, sum(parameter.numel() for parameter in module.parameters(recurse=False)))
            for name, module in network.named_modules()
        ]
        layers = [layer for layer in layers if layer[2]]
        table = Table(show_edge=False, pad_edge=False)
        table.add_column(type(network).__name__)
        table.add_column("layer")
        table.add_column("parameters", justify="right")
        for name, module, count in layers[: self.max_layers]:
            table.add_row(name, str(module), f"{count:,}")
        if len(layers) > self.max_layers:
            table.add_row("…", f"{len(layers) - self.max_layers} more", "")
        table.add_row("", "together", f"{sum(count for *_, count in layers):,}")
        console = Console()
        console.print(table)
        console.print()
