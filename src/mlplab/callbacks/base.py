"""What callbacks share: the one place where they leave what they measured."""

from dataclasses import dataclass, field

import lightning.pytorch as pl

Row = dict[str, float | None]


@dataclass
class Measured:
    """What the callbacks of a run have measured, for each other, for history.csv and for result.json."""

    history: list[Row] = field(default_factory=list)
    """The rows of history.csv."""
    layers: list[Row] = field(default_factory=list)
    """A row for each look at the layers."""
    latest: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Name → after so many updates, value: what is measured at some validations only, such as `grad/noise`."""
    looks: list[str] = field(default_factory=list)
    """Times at which this launch evaluated the test set while training."""
    seconds: float | None = None
    """Training time of all launches of this run, where a callback takes it."""
    stop_reason: str | None = None
    """Why a callback has ended training, in words."""


def measured(trainer: pl.Trainer) -> Measured:
    """What has been measured in the run of this Trainer."""
    return trainer.__dict__.setdefault("measured", Measured())
