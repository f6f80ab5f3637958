"""What a run adds to TensorBoard beside its scalars: the graph, the chart layout, its hyperparameters."""

import logging
import warnings
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from mlplab.checks import first_line

FINAL_METRICS = ("best/val/acc", "test/acc", "test/loss", "val/acc", "val/loss", "train/acc", "train/loss")
"""The metric columns of the HParams tab, the same in every run."""

LAYOUT = {
    "train against validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    },
    "noise": {"loss of one batch": ["Multiline", ["batch/loss"]], "gradient noise": ["Multiline", ["grad/noise"]]},
}
"""Custom scalars: training and validation overlaid in one chart."""

log = logging.getLogger(__name__)


class TensorBoardExtras(Callback):
    """Write the network's graph and the custom scalars layout once, at the start of training."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for board in boards(trainer.loggers):
            board.experiment.add_custom_scalars(LAYOUT)
            sample = torch.zeros((2, *data.feature_shape), device=pl_module.device)
            network, was_training = pl_module.network, pl_module.network.training
            network.eval()  # tracing must draw no random numbers and change no running statistics
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # tracing warns of shapes that are read in Python
                    board.experiment.add_graph(network, sample)
            except Exception as error:  # a network that cannot be traced still trains
                log.info("no graph in TensorBoard: %s", first_line(error))
            network.train(was_training)


def boards(loggers: Iterable[Logger]) -> list[TensorBoardLogger]:
    """The TensorBoard loggers among all loggers."""
    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]


def log_hyperparameters(loggers: Iterable[Logger], columns: dict[str, str | int | float]) -> None:
    """Give a run its line in the HParams tab, whose metrics are the scalars of those names.

    TensorBoard takes the columns from any one run and hides runs whose values have other types, so all runs must call
    this with the same names and types, without None. It is called before training and only once per run.
    """
    for board in boards(loggers):
        writer = board.experiment._get_file_writer()
        for summary in hparams(columns, dict.fromkeys(FINAL_METRICS, 0.0)):
            writer.add_summary(summary)
