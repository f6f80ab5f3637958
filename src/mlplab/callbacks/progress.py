"""The progress bar of a terminal, and plain lines where there is none."""

import logging
import sys
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

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
