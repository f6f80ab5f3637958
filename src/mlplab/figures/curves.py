"""The course of training, from rows like those of history.csv, for a run and for the page about it; final weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mlplab.figures.style import COLOURS, FAINT, INK, VAST_RANGE, is_wide, legend_below, make_logarithmic, panels

Rows = Sequence[Mapping[str, float | None]]

MANY = 40
"""From so many points on, a curve has no markers."""


def learning_curves(rows: Rows, *, best_epoch: float | None = None, stopped_early: bool = False) -> Figure:
    """Loss and accuracy of training and validation over the epochs, the gap between them shaded.

    `best_epoch` is marked as that of the checkpoint kept; `stopped_early` marks the last epoch as early stopping.
    """
    figure, both = panels(2, sharex=True)
    for axes, name, title in zip(both, ("loss", "acc"), ("Loss", "Accuracy"), strict=True):
        train, val = (dict(points(rows, f"{split}/{name}")) for split in ("train", "val"))
        if compared := [epoch for epoch in train if epoch in val]:
            gap = [train[epoch] for epoch in compared], [val[epoch] for epoch in compared]
            axes.fill_between(compared, *gap, color=FAINT, alpha=0.35, linewidth=0, label="gap")
        curve(axes, rows, f"train/{name}", label="training", color=COLOURS[0])
        curve(axes, rows, f"val/{name}", label="validation", color=COLOURS[1])
        marks = {"best": (best_epoch, ":"), "stopped early": (rows[-1]["epoch"] if stopped_early else None, "--")}
        for what, (epoch, line) in marks.items():
            if epoch is not None:
                axes.axvline(epoch, color=INK, linestyle=line, linewidth=1.2, label=f"{what}, epoch {epoch:g}")
        axes.set(title=title, xlabel="epoch", ylabel=title.lower())
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        if name == "acc":
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        elif is_wide([*train.values(), *val.values()], VAST_RANGE):
            make_logarithmic(axes, "y")
        axes.legend()
    return figure


def optimization(rows: Rows) -> Figure:
    """Learning rate, norm of the gradient, variance between batches, and norm of the weights over the epochs."""
    titles = {
        "lr": ("Learning rate", "learning rate"),
        "grad/norm": ("Gradient of the latest batch", "L2 norm"),
        "grad/noise": ("Gradient noise", "variance of the batch gradient"),
        "weights/l2_norm": ("Weights", "L2 norm"),
    }
    return course(rows, titles, width=3.3)


def layers(rows: Rows) -> Figure:
    """Norms, update-to-weight ratios and dead ReLUs of each layer: columns `<quantity>/<layer>`, besides `epoch`."""
    titles = {
        "weight_norm/": ("Weights", "L2 norm"),
        "update_to_weight/": ("Update-to-weight ratio", "‖update‖ / ‖weights‖"),
        "dead_relus/": ("Dead ReLUs", "share of units that are always 0"),
    }
    return course(rows, titles, width=4.2)


def course(rows: Rows, titles: Mapping[str, tuple[str, str]], *, width: float) -> Figure:
    """A panel with title and label for the columns that begin alike, each a curve, where there are any."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {start: found for start in titles if (found := [name for name in names if name.startswith(start)])}
    most = max(map(len, columns.values()))
    lines = -(-most // 3) if most > 1 else 0
    figure, row = panels(len(columns), width=width, lines_below=lines, sharex=True)
    for axes, (start, found) in zip(row, columns.items(), strict=True):
        for index, name in enumerate(found):
            # so that of curves that lie on each other all are seen:
            style = {"color": COLOURS[index % len(COLOURS)], "linestyle": ("-", "--", ":")[index % 3]}
            curve(axes, rows, name, label=name.removeprefix(start), **style)
        axes.set(title=titles[start][0], xlabel="epoch", ylabel=titles[start][1])
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        values = [value for name in found for _, value in points(rows, name)]
        if is_wide(values, VAST_RANGE):
            make_logarithmic(axes, "y")
        else:
            axes.set_ylim(0, 1.06 * max(values, default=0) or 1.0)
            axes.ticklabel_format(axis="y", scilimits=(-3, 4))
            axes.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
        if lines:
            legend_below(axes, columns=3)
    return figure


def weight_histograms(weights: Mapping[str, Tensor], *, when: str) -> Figure:
    """The distribution of the weights of each of the first 8 layers; `when` says in the title at which moment."""
    chosen = list(weights.items())[:8]
    figure, row = panels(len(chosen), width=3.0, height=3.0, title=f"Weights of each layer, {when}")
    for axes, (name, values) in zip(row, chosen, strict=True):
        numbers = values.float().flatten().cpu().numpy()
        axes.hist(numbers, bins=min(60, max(10, math.isqrt(len(numbers)))))
        axes.axvline(0, color=INK, linewidth=0.5)
        axes.set(title=name, xlabel=f"weight (deviation {numbers.std():.3g})")
        axes.locator_params(axis="x", nbins=5)
        axes.locator_params(axis="y", integer=True)
    row[0].set_ylabel("number of weights")
    return figure


def points(rows: Rows, name: str) -> list[tuple[float, float]]:
    """Epoch and value of each row that has a finite value in this column."""
    both = [(row["epoch"], row.get(name)) for row in rows]
    return [(epoch, value) for epoch, value in both if epoch is not None and value is not None and math.isfinite(value)]


def curve(axes: Axes, rows: Rows, name: str, **style: Any) -> None:
    """The values of a column over the epochs, where there are any."""
    if known := points(rows, name):
        axes.plot(*zip(*known, strict=True), marker="." if len(known) < MANY else None, **style)
