"""`history.csv`: what a run measured at each validation, one row each."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mlplab.callbacks.base import Row, measured
from mlplab.callbacks.measure import norms
from mlplab.files import write_atomically

HISTORY = "history.csv"
COLUMNS = (
    "epoch", "updates", "samples_seen", "seconds", "lr", "train/loss", "train/acc", "val/loss", "val/acc",
    "gap/loss", "gap/acc", "weights/l2_norm", "grad/norm", "grad/noise",
)  # fmt: skip


PAUSE = 1.0
"""Seconds for which files may lack the latest, where checkpoints follow each other faster."""
COUNTS = ("updates", "samples_seen")
"""The columns of whole numbers."""


class History(Callback):
    """Keep a row of `columns` for each validation, and for each epoch without one, in `rows` and in `history.csv`.

    `epoch` is the number of updates over those of an epoch, so it has a fraction within one; `seconds` is training
    time so far, that of interrupted launches of the run included; `grad/norm` is of the latest batch. What was not
    measured at a row is None, and empty in the file. The file is written anew when a checkpoint is saved, and at the
    end. The rows are part of the checkpoint: a run that goes on from it has each row once.
    """

    def __init__(self) -> None:
        self.columns = list(COLUMNS)
        self.rows: list[Row] = []
        self._lines: list[str] = []  # the rows as they stand in the file
        self._packed = packed([])
        self._written_at = -PAUSE

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.columns = list(dict.fromkeys([*COLUMNS, *measured(trainer).latest]))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        measured(trainer).history = self.rows
        self.write(trainer)  # rows later than the checkpoint that this launch goes on from leave the file

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if measured(trainer).latest.get("grad/noise") is not None:
            self._note(trainer, pl_module, {})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._note(trainer, pl_module, trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self.rows or self.rows[-1]["updates"] != trainer.global_step:  # an epoch without validation
            self._note(trainer, pl_module, pl_module.train_metrics.compute("train/"))

    def _note(self, trainer: Any, pl_module: Any, metrics: dict[str, Any]) -> None:
        data, updates, seen = trainer.datamodule, trainer.global_step, measured(trainer)
        values = {name: float(value) for name, value in (metrics | norms(pl_module.network)).items()}
        values |= {
            "epoch": updates / data.updates_per_epoch,
            "updates": updates,
            "samples_seen": data.samples_seen(updates),
            "seconds": seen.seconds,
            "lr": float(pl_module.learning_rate),
        }
        self.rows.append({name: (values | seen.latest).get(name) for name in self.columns})
        seen.latest = dict.fromkeys(seen.latest)

    def write(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Bring the file up to date, with all digits that the numbers have."""
        new = self.rows[len(self._lines) :]
        if new and trainer.is_global_zero:
            self._lines += [",".join("" if cell is None else repr(cell) for cell in row.values()) + "\n" for row in new]
            heading = ",".join(self.columns) + "\n"
            write_atomically(Path(trainer.default_root_dir) / HISTORY, heading + "".join(self._lines))
            self._written_at = time.perf_counter()

    def end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        measured(trainer).ended = time.perf_counter()
        self.write(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if time.perf_counter() - self._written_at >= PAUSE:
            self.write(trainer)

    on_train_end = on_exception = end

    def state_dict(self) -> dict[str, Any]:
        if new := self.rows[len(self._packed) :]:
            self._packed = torch.cat([self._packed, packed(new)])
        return {"cells": self._packed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rows = state_dict.get("rows")  # as earlier versions kept them
        if rows is None:
            pairs = (zip(numbers, known, strict=True) for numbers, known in state_dict["cells"].tolist())
            rows = [[number if is_known else None for number, is_known in pair] for pair in pairs]
        self.rows = [dict(zip(self.columns, values, strict=True)) for values in rows]
        for row in self.rows:
            row |= {name: int(row[name] or 0) for name in COUNTS}
        self._lines, self._packed = [], packed(self.rows)


def packed(rows: list[Row]) -> torch.Tensor:
    """Rows as one tensor (rows, 2, columns), which is saved faster: the numbers, and whether they are known."""
    cells = [[[cell or 0.0 for cell in row.values()], [cell is not None for cell in row.values()]] for row in rows]
    return torch.tensor(cells, dtype=torch.float64)
