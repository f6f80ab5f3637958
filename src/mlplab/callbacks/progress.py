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
        self.lines = lines_without_terminal
        if not sys.stderr.isatty() and not sys.stdout.isatty():
            self.disable()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.is_enabled or trainer.sanity_checking or not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or -1
        if epoch == 1 or epoch == epochs or epoch % max(1, epochs // self.lines) == 0:
            shown = {name: trainer.callback_metrics[name] for name in ("train/loss", "val/loss", "val/acc")
                     if name in trainer.callback_metrics}  # fmt: skip
            values = "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items())
            log.info("epoch %d/%s  update %d  %s", epoch, epochs if epochs > 0 else "∞", trainer.global_step, values)


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
