"""What a run adds to TensorBoard beside its scalars: graph, texts, chart layout, hyperparameters, embedding."""

import logging
import warnings
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard.summary import histogram, hparams

from mlplab.callbacks.embedding import write_embedding
from mlplab.callbacks.outputs import can_look, evaluating
from mlplab.callbacks.texts import data_facts, model_summary
from mlplab.config.rules import integer
from mlplab.errors import first_line

FINAL_METRICS = ("best/val/acc", "test/acc", "test/loss", "val/acc", "val/loss", "train/acc", "train/loss")
"""The metric columns of the HParams tab, the same in every run."""

LAYOUT = {
    "train against validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    },
    "noise": {"loss of one batch": ["Multiline", ["batch/loss"]], "gradient noise": ["Multiline", ["grad/noise"]]},
    "layers": {
        "norm of the weights": ["Multiline", ["weight_norm/.*"]],
        "size of an update": ["Multiline", ["update_to_weight/.*"]],
        "dead ReLUs": ["Multiline", ["dead_relus/.*"]],
    },
}
"""Custom scalars: training and validation overlaid in one chart, and all layers in one."""

log = logging.getLogger(__name__)


class TensorBoardExtras(Callback):
    """Write the network's graph, its summary, facts of the data and the custom scalars layout once, before training;
    after it, for the projector, what the last hidden layer makes of at most `num_embedded` validation samples."""

    def __init__(self, *, num_embedded: int = 1000) -> None:
        integer(0).require("callbacks.tensorboard.num_embedded", num_embedded)
        self.num_embedded = num_embedded
        self._begun = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero or self._begun:
            return
        self._begun = True
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        log_text(trainer.loggers, "model", model_summary(pl_module.network))
        log_text(trainer.loggers, "data", data_facts(data))
        for board in boards(trainer.loggers):
            board.experiment.add_custom_scalars(LAYOUT)
            sample = torch.zeros((2, *data.feature_shape), device=pl_module.device)
            try:
                with warnings.catch_warnings(), evaluating(pl_module):  # draws no random numbers
                    warnings.simplefilter("ignore")  # tracing warns of shapes that are read in Python
                    board.experiment.add_graph(pl_module.network, sample)
            except Exception as error:  # a network that cannot be traced still trains
                log.info("no graph in TensorBoard: %s", first_line(error))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not can_look(trainer) or not len(data.datasets["val"]) or not self.num_embedded:
            return
        for board in boards(trainer.loggers):
            write_embedding(board, pl_module, data, num_samples=self.num_embedded)

    def state_dict(self) -> dict[str, Any]:
        return {"begun": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._begun = state_dict["begun"]


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


def log_text(loggers: Iterable[Logger], name: str, markdown: str, *, updates: int = 0) -> None:
    """Show a text in TensorBoard's Text tab."""
    for board in boards(loggers):
        board.experiment.add_text(name, markdown, global_step=updates)


def log_image(loggers: Iterable[Logger], name: str, image: bytes, *, updates: int) -> None:
    """Show the content of a PNG file in TensorBoard, as it is."""
    width, height = (int.from_bytes(image[place : place + 4]) for place in (16, 20))
    shown = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=image)
    for board in boards(loggers):
        write_event(board, [Summary.Value(tag=name, image=shown)], updates=updates)


def log_together(
    loggers: Iterable[Logger], scalars: dict[str, float], histograms: dict[str, Tensor], *, updates: int, bins: int
) -> None:  # fmt: skip
    """Log scalars, and in TensorBoard histograms too, all as one event: each event takes a while, whatever is in it."""
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(scalars, step=updates)
            continue
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        for name, numbers in histograms.items():
            values += histogram(name, numbers.float().cpu().numpy(), bins).value
        write_event(logger, values, updates=updates)


def write_event(board: TensorBoardLogger, values: list[Summary.Value], *, updates: int) -> None:
    """Write values of any kinds as one event."""
    board.experiment._get_file_writer().add_summary(Summary(value=values), updates)
