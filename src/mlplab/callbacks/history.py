"""`history.csv`: what a run measured at each validation, one row each."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mlplab.callbacks.gradient_noise import GradientNoise
from mlplab.callbacks.monitors import l2_norm
from mlplab.callbacks.split_curve import SplitCurve
from mlplab.files import write_atomically

HISTORY = "history.csv"
COLUMNS = (
    "epoch", "updates", "samples_seen", "seconds", "lr", "train/loss", "train/acc", "val/loss", "val/acc",
    "gap/loss", "gap/acc", "weights/l2_norm", "grad/norm", "grad/noise",
)  # fmt: skip
Row = dict[str, float | None]


class History(Callback):
    """Keep a row of `columns` for each validation, and for each epoch without one, in `rows` and in `history.csv`.

    `epoch` is the number of updates over those of an epoch, so it has a fraction within one; `seconds` is training
    time so far, that of interrupted launches of the run included; `grad/norm` is of the latest batch. What was not
    measured at a row is None, and empty in the file. The file is written anew whenever a checkpoint is saved, and at
    the end. The rows are part of the checkpoint: a run that goes on from it has each row once.
    """

    def __init__(self) -> None:
        self.columns = list(COLUMNS)
        self.rows: list[Row] = []
        self._lines: list[str] = []  # the rows as they stand in the file
        self._lines_on_disk = 0
        self._earlier_seconds = 0.0
        self._start: float | None = None  # None where there is no training going on

    @property
    def seconds(self) -> float:
        """Training time so far; it stands still when training has ended."""
        return self._earlier_seconds + (0.0 if self._start is None else time.perf_counter() - self._start)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        curves = [callback for callback in trainer.callbacks if isinstance(callback, SplitCurve)]  # type: ignore[attr-defined]
        self.columns = list(dict.fromkeys([*COLUMNS, *(name for curve in curves for name in curve.names)]))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()
        self._write(trainer)  # rows later than the checkpoint that this launch goes on from leave the file

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if any(updates == 0 == trainer.global_step for updates, _ in noises(trainer)):
            self._note(trainer, pl_module, {})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._note(trainer, pl_module, trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self.rows or self.rows[-1]["updates"] != trainer.global_step:  # an epoch without validation
            self._note(trainer, pl_module, pl_module.train_metrics.compute("train/"))

    def _note(self, trainer: pl.Trainer, pl_module: Any, metrics: dict[str, Any]) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        updates, parameters = trainer.global_step, list(pl_module.network.parameters())
        values = {name: float(value) for name, value in metrics.items()} | {
            "epoch": updates / data.updates_per_epoch,
            "updates": updates,
            "samples_seen": data.samples_seen(updates),
            "seconds": self.seconds,
            "lr": float(pl_module.learning_rate),
            "weights/l2_norm": float(l2_norm([parameter.detach() for parameter in parameters])),
        }
        if updates > 0:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            values["grad/norm"] = float(l2_norm(gradients))
        for measured_at, noise in noises(trainer):
            if measured_at == updates and noise is not None:
                values["grad/noise"] = noise
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SplitCurve) and callback.measured_at == updates:
                values |= callback.latest
        self.rows.append({name: values.get(name) for name in self.columns})
        self._lines.append(line(self.rows[-1]))

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end(trainer)

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        self._end(trainer)

    def _end(self, trainer: pl.Trainer) -> None:
        self._earlier_seconds, self._start = self.seconds, None
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and len(self._lines) != self._lines_on_disk:
            heading = ",".join(self.columns) + "\n"
            write_atomically(Path(trainer.default_root_dir) / HISTORY, heading + "".join(self._lines))
            self._lines_on_disk = len(self._lines)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [list(row.values()) for row in self.rows], "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [dict(zip(self.columns, values, strict=True)) for values in state_dict["rows"]]
        self._lines, self._lines_on_disk = [line(row) for row in self.rows], -1
        self._earlier_seconds = state_dict["seconds"]


def noises(trainer: pl.Trainer) -> list[tuple[int | None, float | None]]:
    """What each GradientNoise measured last, and after how many updates."""
    return [callback.latest for callback in trainer.callbacks if isinstance(callback, GradientNoise)]  # type: ignore[attr-defined]


def line(row: Row) -> str:
    """A row as it stands in the file, with all digits that its numbers have."""
    return ",".join("" if value is None else repr(value) for value in row.values()) + "\n"
