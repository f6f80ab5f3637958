"""What the terminal shows of a run: the network, then a progress bar, or plain lines where there is no terminal."""

import logging
import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar
from rich.console import Console
from rich.table import Table

log = logging.getLogger(__name__)


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar in a terminal; in a file or a pipe about ten lines over the whole run."""

    def __init__(self, *, lines_without_terminal: int = 10, **kwargs: Any) -> None:
        super().__init__(leave=False, **kwargs)
        self.lines, self._lines_done = lines_without_terminal, -1
        if not sys.stderr.isatty() and not sys.stdout.isatty():
            self.disable()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.is_enabled or trainer.sanity_checking or not trainer.is_global_zero:
            return
        per_epoch = trainer.datamodule.updates_per_epoch  # type: ignore[attr-defined]
        planned = [trainer.max_steps, (trainer.max_epochs or -1) * per_epoch]
        total = min((limit for limit in planned if limit > 0), default=None)
        updates, epoch = trainer.global_step, trainer.current_epoch + 1
        share = updates * self.lines // total if total else updates.bit_length()  # without an end: at 1, 2, 4, 8, …
        if updates == total or share > self._lines_done:
            self._lines_done = share
            epochs = -(-total // per_epoch) if total else "∞"
            shown = {name: trainer.callback_metrics[name] for name in ("train/loss", "val/loss", "val/acc")
                     if name in trainer.callback_metrics}  # fmt: skip
            values = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items())
            log.info("epoch %d/%s  update %d  %s", epoch, epochs, updates, values)


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
