"""Curves over the course of training: for each group the mean of its runs, and the 95 % interval of the mean."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from mlplab.figures.style import COLOURS, FAINT, INK, as_svg, is_wide, make_logarithmic, make_plain
from mlplab.report.groups import Group
from mlplab.report.intervals import student
from mlplab.report.runs import Run
from mlplab.report.words import SPLITS, as_title, in_words, is_share, with_unit

CLOCKS = ("updates", "samples_seen", "seconds")
POINTS = 100
VAST_RANGE = 100
"""From this ratio of the largest to the smallest loss on, its axis is logarithmic."""


class Curve(NamedTuple):
    """Mean and half the width of its 95 % interval, NaN for a single run, on a grid that all runs reach."""

    x: np.ndarray
    mean: np.ndarray
    half_width: np.ndarray
    n: int


def curve(group: Group, clock: str, metric: str, *, logarithmic: bool = False) -> Curve | None:
    """The runs of a group brought onto one grid by linear interpolation, from where the last run's first value is to
    where the first run ends; None without a history."""
    lines = [line for run in group.runs if (line := points(run, clock, metric)) is not None]
    if not lines:
        return None
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if end < start:
        return None
    space = np.geomspace if logarithmic and start > 0 else np.linspace
    longest = max(len(x) for x, _ in lines)
    grid = space(start, end, 1 if start == end else POINTS) if longest > 1 else np.array([start])
    values = np.stack([np.interp(grid, x, y) for x, y in lines])  # (runs, points)
    n = len(lines)
    half_width = stats.sem(values, axis=0) * student(n - 1) if n > 1 else grid * math.nan
    return Curve(grid, values.mean(axis=0), half_width, n)


def points(run: Run, clock: str, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Clock and metric at the rows of a run's history that have both as finite numbers; None without such a row."""
    if clock not in run.columns or metric not in run.columns:
        return None
    x, y = run.columns[clock], run.columns[metric]
    known = np.isfinite(x) & np.isfinite(y)
    return (x[known], y[known]) if known.any() else None


def has_curves(groups: Sequence[Group], metric: str) -> bool:
    return any(points(run, "updates", metric) is not None for group in groups for run in group.runs)


@as_svg
def curves(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """A row for each metric, a column for each clock, a line for each group."""
    figure = Figure(figsize=(11.5, 2.5 * len(metrics) + 0.7), layout="constrained")
    grid: Any = figure.subplots(len(metrics), len(CLOCKS), squeeze=False, sharey="row", sharex="col")
    for column, clock in enumerate(CLOCKS):
        spans = [span for group in groups for run in group.runs if (span := points(run, clock, metrics[0]))]
        logarithmic = is_wide([float(x[-1]) for x, _ in spans]) and all(x[0] > 0 for x, _ in spans)
        for row, metric in enumerate(metrics):
            axes = grid[row, column]
            for index, group in enumerate(groups):
                if found := curve(group, clock, metric, logarithmic=logarithmic):
                    draw(axes, found, COLOURS[index], group.label, scale=100 if is_share(metric) else 1)
            if metric.startswith("gap/"):
                axes.axhline(0, color=FAINT, linewidth=1)
            if column == 0:
                axes.set_ylabel(as_title(metric))
            if logarithmic:
                make_logarithmic(axes, "x")
            else:
                make_plain(axes)
        grid[-1, column].set_xlabel(in_words(clock))
    for row, metric in enumerate(metrics):
        limit(grid[row], metric)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    title = ", ".join(groups[0].settings) if len(groups) > 1 else None
    figure.legend(handles, labels, title=title, loc="outside upper left", ncols=min(len(labels), 4), alignment="left")
    return figure


def limit(panels: Any, metric: str) -> None:
    """Let the lines fill the panels of a row; bands of few runs would, and reach beyond 100 % or a loss below 0.

    A loss that ranges widely gets a logarithmic axis.
    """
    drawn = [np.asarray(line.get_ydata(), dtype=float) for axes in panels for line in axes.lines]
    if not drawn:
        return
    low, high = min(float(y.min()) for y in drawn), max(float(y.max()) for y in drawn)
    if low > 0 and high > VAST_RANGE * low and not is_share(metric):
        make_logarithmic(panels[0], "y")
        panels[0].set_ylim(low / 2, high * 2)
        return
    margin = 0.3 * (high - low) or 0.05 * abs(high) or 1.0
    bottom, top = panels[0].get_ylim()
    low, high = max(bottom, low - margin), min(top, high + margin)
    if metric.endswith("/loss") and not metric.startswith("gap/"):
        low = max(low, 0)
    elif is_share(metric) and not metric.startswith("gap/"):
        low, high = max(low, -1), min(high, 101)
    panels[0].set_ylim(low, high)


@as_svg
def run_curves(run: Run, *, best_epoch: float | None = None) -> Figure:
    """Accuracy and loss of one run over its epochs: training, validation, and the gap between them."""
    figure = Figure(figsize=(11.5, 4.0), layout="constrained")
    row: Any = figure.subplots(1, 2)
    for axes, measure in zip(row, ("acc", "loss"), strict=True):
        scale = 100 if measure == "acc" else 1
        lines = [points(run, "epoch", f"{split}/{measure}") for split in ("train", "val")]
        for index, (split, line) in enumerate(zip(("train", "val"), lines, strict=True)):
            if line:
                x, y = line
                marker = "o" if len(x) < 12 else None
                axes.plot(x, scale * y, color=COLOURS[index], label=SPLITS[split], marker=marker, markersize=4)
        if (train := lines[0]) and (val := lines[1]) and np.array_equal(train[0], val[0]):
            axes.fill_between(val[0], scale * train[1], scale * val[1], color=FAINT, alpha=0.35, lw=0, label="gap")
        if best_epoch is not None:
            axes.axvline(best_epoch, color=INK, linestyle=":", linewidth=1.2, label=f"best, epoch {best_epoch:g}")
        axes.set(xlabel="epoch", ylabel=with_unit(f"val/{measure}").removeprefix("validation "))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=run.columns["epoch"][-1] >= 2))
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def draw(axes: Any, line: Curve, colour: str, label: str, *, scale: float) -> None:
    marker = "o" if len(line.x) == 1 else None
    axes.plot(line.x, scale * line.mean, color=colour, label=label, marker=marker)
    if not np.isnan(line.half_width).all():
        low, high = scale * (line.mean - line.half_width), scale * (line.mean + line.half_width)
        if marker:
            axes.errorbar(line.x, scale * line.mean, scale * line.half_width, color=colour, capsize=3)
        else:
            axes.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
