"""Figures of the course of training, from the rows of history.csv."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlplab.figures.pictures import COLOURS
from mlplab.figures.style import GREY, TRAIN_COLOUR, VAL_COLOUR, panels, whole_ticks

Rows = Sequence[Mapping[str, float | None]]

MANY = 40
"""From so many points on, a curve has no markers."""


def learning_curves(rows: Rows, *, best_epoch: float | None = None, stopped_early: bool = False) -> Figure:
    """Loss and accuracy of training and validation over the epochs, the gap between them shaded.

    `best_epoch` is marked as that of the checkpoint kept; `stopped_early` marks the last epoch as early stopping.
    """
    figure, both = panels(2)
    for axes, name, title in zip(both, ("loss", "acc"), ("Loss", "Accuracy"), strict=True):
        train, val = f"train/{name}", f"val/{name}"
        compared = [row for row in rows if row[train] is not None and row[val] is not None]
        if len(compared) > 1:
            axes.fill_between(
                column(compared, "epoch"), column(compared, train), column(compared, val),
                color=GREY, alpha=0.25, linewidth=0, label="gap",
            )  # fmt: skip
        curve(axes, rows, train, label="training", colour=TRAIN_COLOUR)
        curve(axes, rows, val, label="validation", colour=VAL_COLOUR)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="black", linestyle=":", linewidth=1, label=f"best, epoch {best_epoch:g}")
        if stopped_early and (end := rows[-1]["epoch"]) is not None:
            axes.axvline(end, color="black", linestyle="--", linewidth=1, label=f"stopped early, epoch {end:g}")
        axes.set(title=title, ylabel=title.lower())
        epoch_axis(axes, rows)
        if name == "loss":
            log_where_wide(axes, rows, (train, val))
        axes.legend(frameon=False, fontsize=9)
    return figure


def optimization(rows: Rows) -> Figure:
    """Learning rate, norm of the gradient, variance between batches, and norm of the weights over the epochs."""
    figure, axes_row = panels(4, width=3.3, height=3.1)
    for axes, (name, title, label), colour in zip(
        axes_row,
        (
            ("lr", "Learning rate", "learning rate"),
            ("grad/norm", "Gradient of the latest batch", "L2 norm"),
            ("grad/noise", "Gradient noise", "variance of the batch gradient"),
            ("weights/l2_norm", "Weights", "L2 norm"),
        ),
        (COLOURS[7], COLOURS[0], COLOURS[5], COLOURS[2]),
        strict=True,
    ):
        curve(axes, rows, name, label=name, colour=colour)
        axes.set_title(title)
        axes.set_ylabel(label, fontsize=9)
        epoch_axis(axes, rows)
        if not log_where_wide(axes, rows, (name,)):
            from_zero(axes, rows, (name,))
    return figure


def epoch_axis(axes: Axes, rows: Rows) -> None:
    """Epochs from left to right: the same for what was measured often and seldom, at whole numbers if there are any."""
    epochs = column(rows, "epoch")
    axes.set_xlabel("epoch")
    if not epochs:
        return
    first, last = epochs[0], epochs[-1]
    margin = 0.04 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    if last - first >= 1 or len(epochs) == 1:
        whole_ticks(axes.xaxis)


def from_zero(axes: Axes, rows: Rows, names: Sequence[str]) -> None:
    """Let the vertical axis start at 0, with some room above the greatest value, and short numbers beside it."""
    values = [value for row in rows for name in names if (value := row.get(name)) is not None]
    axes.set_ylim(0, 1.06 * max(values, default=0) or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)


def curve(axes: Axes, rows: Rows, name: str, *, label: str, colour: str, line: str = "-") -> None:
    """The values of one column over the epochs, where there are any."""
    known = [row for row in rows if row.get(name) is not None]
    if known:
        marker = "." if len(known) < MANY else None
        axes.plot(column(known, "epoch"), column(known, name), color=colour, label=label, marker=marker, linestyle=line)


def log_where_wide(axes: Axes, rows: Rows, names: Sequence[str], *, wide: float = 100) -> bool:
    """Make the vertical axis logarithmic where the positive values lie more than a factor `wide` apart."""
    values = [value for row in rows for name in names if (value := row.get(name)) is not None]
    logarithmic = bool(values) and min(values) > 0 and max(values) > wide * min(values)
    if logarithmic:
        axes.set_yscale("log")
    return logarithmic


def best_epoch(rows: Rows, *, monitor: str | None, mode: str) -> float | None:
    """The epoch of the best (`mode`: min or max) value of a column, the first of equal ones; None without a value."""
    known = [row for row in rows if monitor is not None and row.get(monitor) is not None]
    best = (min if mode == "min" else max)(known, key=lambda row: row[monitor], default=None)  # type: ignore[index, return-value, arg-type]
    return best["epoch"] if best else None


def column(rows: Rows, name: str) -> list[float]:
    """The values of one column that is known in every row."""
    return [float(value) for row in rows if (value := row[name]) is not None]
