"""What a run adds to TensorBoard beside its scalars, and what becomes of its event files when it continues."""

import contextlib
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer import event_file_writer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import FileWriter

from mlplab.callbacks.base import activations, can_look, evaluating, probabilities, samples
from mlplab.config.keys import require
from mlplab.errors import first_line

FINAL_METRICS = ("best/val/acc", "test/acc", "test/loss", "val/acc", "val/loss", "train/acc", "train/loss")
"""The metric columns of the HParams tab, the same in every run."""

OVERLAID = {"accuracy and loss/accuracy": "acc", "accuracy and loss/loss": "loss"}
"""Charts of training against validation: a curve for each. By their name they are the first that TensorBoard shows."""

LAYOUT = {
    "noise": {"loss of one batch": ["Multiline", ["batch/loss"]], "gradient noise": ["Multiline", ["grad/noise"]]},
    "layers": {
        "norm of the weights": ["Multiline", ["weight_norm/.*"]],
        "size of an update": ["Multiline", ["update_to_weight/.*"]],
        "dead ReLUs": ["Multiline", ["dead_relus/.*"]],
    },
}
"""Custom scalars: all layers in one chart."""

MOST_CLASSES, LARGEST_SPRITE = 20, 32
"""Class names in the Text tab, and pixels at each side of an image in the projector."""

log = logging.getLogger(__name__)


class AtOnce:
    """Writes events into a file as they come, and onto the disk when flushed, and every `flush_secs` seconds.

    tensorboard hands each event to a thread, which is waited for at each flush: with its files for training and
    validation three threads, which took a quarter of the time of epochs that are validated one by one.
    """

    def __init__(self, record_writer: Any, max_queue_size: int = 20, flush_secs: float = 120) -> None:
        self.file, self.flush_secs, self.flushed_at = record_writer, flush_secs, 0.0

    def write(self, event: bytes) -> None:
        self.file.write(event)
        if time.monotonic() - self.flushed_at >= self.flush_secs:
            self.flush()

    def flush(self) -> None:
        self.file.flush()
        self.flushed_at = time.monotonic()

    def close(self) -> None:
        self.file.flush()
        self.file.close()


event_file_writer._AsyncWriter = AtOnce  # which has no public name


class TensorBoard(TensorBoardLogger):
    """Lightning's, but the metrics of a moment are one event, which is written in a quarter of the time of several."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if writer := self.experiment.file_writer:
            writer.add_summary(scalars(metrics), step)
        else:  # closed when training has ended; Lightning's way opens it again
            super().log_metrics(metrics, step)


def scalars(metrics: Mapping[str, Any]) -> Summary:
    """What an event holds of these values."""
    return Summary(value=[Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()])


class TensorBoardExtras(Callback):
    """Write the network and its graph, the data's sizes and the custom scalars layout once, before training; at each
    validation what `OVERLAID` says, in the folders `train` and `val`, since TensorBoard overlays folders; and at the
    end, for the projector, what the last hidden layer makes of at most `num_embedded` validation samples."""

    def __init__(self, *, num_embedded: int = 1000) -> None:
        require("callbacks.tensorboard.num_embedded", num_embedded)
        self.num_embedded = num_embedded

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.ckpt_path is not None:  # a run that goes on has them already
            return
        data, names = trainer.datamodule, trainer.datamodule.source.class_names
        sizes = ", ".join(f"{len(dataset):,} {split}" for split, dataset in data.datasets.items())
        log_text(trainer.loggers, "model", code_block(str(pl_module.network)))
        log_text(trainer.loggers, "data", f"{sizes} samples of {data.feature_shape}: {', '.join(names[:MOST_CLASSES])}")
        for board in boards(trainer.loggers):
            board.experiment.add_custom_scalars(LAYOUT)
            sample = torch.zeros((2, *data.feature_shape), device=pl_module.device)
            try:
                with warnings.catch_warnings(), evaluating(pl_module):  # draws no random numbers
                    warnings.simplefilter("ignore")  # tracing warns of shapes that are read in Python
                    board.experiment.add_graph(pl_module.network, sample)
            except Exception as error:  # a network that cannot be traced still trains
                log.info("no graph in TensorBoard: %s", first_line(error))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        for board in boards(trainer.loggers) if trainer.is_global_zero else ():
            for split in ("train", "val"):
                found = {chart: trainer.callback_metrics.get(f"{split}/{name}") for chart, name in OVERLAID.items()}
                known = {chart: value for chart, value in found.items() if value is not None}
                writer_of(board, split).add_summary(scalars(known), trainer.global_step)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if can_look(trainer) and len(trainer.datamodule.datasets["val"]) and self.num_embedded:
            for board in boards(trainer.loggers):
                with tolerated("the projector"):
                    write_embedding(board, pl_module, trainer.datamodule, num_samples=self.num_embedded)


@contextlib.contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Name in the log what could not be drawn: hours of training must not be lost for a picture."""
    try:
        yield
    except Exception as error:
        log.warning("%s could not be drawn: %s", what, first_line(error))


def boards(loggers: Iterable[Logger]) -> list[TensorBoardLogger]:
    """The TensorBoard loggers among all loggers."""
    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]


def writer_of(board: TensorBoardLogger, name: str) -> FileWriter:
    """What writes into a folder within that of a logger, and is flushed and closed together with it."""
    writers, folder = board.experiment.all_writers, str(Path(board.log_dir) / name)
    if folder not in writers:
        writers[folder] = FileWriter(folder)
    return writers[folder]


@rank_zero_only
def log_hyperparameters(loggers: Iterable[Logger], columns: dict[str, str | int | float]) -> None:
    """Give a run its line in the HParams tab, whose metrics are the scalars of those names.

    TensorBoard takes the columns from any one run and hides runs whose values have other types, so all runs must call
    this with the same names and types, without None. It is called before training and only once per run.
    """
    for board in boards(loggers):
        for summary in hparams(columns, dict.fromkeys(FINAL_METRICS, 0.0)):
            board.experiment.file_writer.add_summary(summary)


# Texts, in Markdown


def log_text(loggers: Iterable[Logger], name: str, markdown: str, *, updates: int = 0) -> None:
    """Show a text in TensorBoard's Text tab."""
    for board in boards(loggers):
        board.experiment.add_text(name, markdown, global_step=updates)


def code_block(text: str) -> str:
    """The text as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def table(rows: Iterable[tuple[str, Any]], *, header: tuple[str, str]) -> str:
    """Two columns."""
    return "\n".join(f"| {name} | {value} |" for name, value in (header, ("---", "---"), *rows))


# The projector


def write_embedding(board: TensorBoardLogger, pl_module: Any, data: Any, *, num_samples: int) -> None:
    """The activations of the last hidden layer for validation samples, with labels and small images.

    It replaces what an earlier launch of the run has written.
    """
    features, labels = samples(data, "val", most=num_samples)
    _, hidden = activations(pl_module, data, features)
    if hidden is None:
        return
    confidence, predicted = probabilities(pl_module, data, features).max(dim=1)
    names, folder = data.source.class_names, Path(board.log_dir)
    told = zip(labels.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
    rows = [[names[true], names[guess], "yes" if true == guess else "no", f"{sure:.3f}"] for true, guess, sure in told]
    (folder / "projector_config.pbtxt").unlink(missing_ok=True)
    shutil.rmtree(folder / "00000", ignore_errors=True)  # where torch puts what belongs to step 0
    board.experiment.add_embedding(
        hidden, metadata=rows, metadata_header=["class", "predicted", "right", "confidence"], tag="last_hidden_layer",
        label_img=sprites(features) if data.source.is_images else None,
    )  # fmt: skip


def sprites(images: Tensor) -> Tensor:
    """uint8 images (n, channels, height, width) as small squares for one sheet: floats from 0 to 1, no opacity."""
    colours = images[:, : 3 if images.shape[1] in (3, 4) else 1].float() / 255
    scale = min(1, LARGEST_SPRITE / max(images.shape[2:]))
    height, width = (max(1, round(scale * pixels)) for pixels in images.shape[2:])
    side = max(height, width)
    return F.pad(F.interpolate(colours, size=(height, width)), (0, side - width, 0, side - height))


# Event files of a run that continues


def flush_logs(loggers: Iterable[Logger]) -> None:
    """Write what loggers still hold in memory."""
    for logger in loggers:
        logger.experiment.flush() if isinstance(logger, TensorBoardLogger) else logger.save()


def log_sizes(loggers: Iterable[Logger]) -> dict[str, dict[str, int]]:
    """How much has been logged: the bytes of each event file."""
    files = (file for board in boards(loggers) for file in event_files(board))
    return {"tensorboard": {name: path.stat().st_size for name, path in files}}


def cut_logs(loggers: Iterable[Logger], sizes: dict[str, Any]) -> list[str]:
    """Take back what was logged after `log_sizes` gave `sizes`; gives a line for each file that has lost more.

    To be called before anything is logged.
    """
    lost, kept = [], sizes.get("tensorboard", {})
    for board in boards(loggers):
        there = {name: path.stat().st_size for name, path in event_files(board)}
        for name in sorted(there.keys() | kept):
            path, missing = Path(board.log_dir) / name, kept.get(name, 0) - there.get(name, 0)
            if name not in kept:
                path.unlink()
            elif missing > 0:
                lost.append(f"{path} lacks {missing:,} bytes that had been written: its curves have a gap")
            else:
                os.truncate(path, kept[name])
    return lost


def event_files(board: TensorBoardLogger) -> list[tuple[str, Path]]:
    """All event files of a run, with their names below its folder."""
    folder = Path(board.log_dir)
    return [(path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("events.out.tfevents.*"))]
