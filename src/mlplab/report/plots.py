"""Figures of groups of runs: curves over the course of training, final scores by their settings, a fitted power law."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from mlplab.figures.style import COLOURS, FAINT, INK, is_wide, look, make_logarithmic, make_plain
from mlplab.report.frames import Group
from mlplab.report.numbers import half_width, in_words, is_share, power_law, shown_interval, with_unit
from mlplab.report.study import Fit

CLOCKS = ("updates", "samples_seen", "seconds")
POINTS = 100
VAST_RANGE = 100
"""From this ratio of the largest to the smallest loss on, its axis is logarithmic."""
WIDTH = 11.5  # inches, the width of a page


def curve(group: Group, clock: str, metric: str, *, logarithmic: bool = False) -> tuple[np.ndarray, ...] | None:
    """x, mean, and half the width of its 95 % interval, NaN for a single run; None without a history.

    The runs are brought onto one grid by linear interpolation, from where the last run's first value is to where the
    first run ends.
    """
    lines = group.lines(clock, metric)
    start, end = max((x[0] for x, _ in lines), default=1), min((x[-1] for x, _ in lines), default=0)
    if end < start:
        return None
    space = np.geomspace if logarithmic and start > 0 else np.linspace
    grid = space(start, end, 1 if start == end else POINTS)
    values = np.stack([np.interp(grid, x, y) for x, y in lines])  # (runs, points)
    return grid, values.mean(axis=0), half_width(values)


def curves(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """A row for each metric, a column for each clock, a line for each group with a band for its 95 % interval."""
    figure = Figure(figsize=(WIDTH, 2.5 * len(metrics) + 0.7), layout="constrained")
    grid: Any = figure.subplots(len(metrics), len(CLOCKS), squeeze=False, sharey="row", sharex="col")
    for column, clock in enumerate(CLOCKS):
        spans = [x for group in groups for x, _ in group.lines(clock, metrics[0])]
        logarithmic = is_wide([float(x[-1]) for x in spans]) and all(x[0] > 0 for x in spans)
        for axes, metric in zip(grid[:, column], metrics, strict=True):
            for index, group in enumerate(groups):
                if found := curve(group, clock, metric, logarithmic=logarithmic):
                    x, mean, half = found
                    axes.plot(x, mean, color=COLOURS[index], label=group.label, marker="o" if len(x) == 1 else None)
                    axes.fill_between(x, mean - half, mean + half, color=COLOURS[index], alpha=0.15, linewidth=0)
            if metric.startswith("gap/"):
                axes.axhline(0, color=FAINT, linewidth=1)
            if logarithmic:
                make_logarithmic(axes, "x")
            else:
                make_plain(axes)
        grid[-1, column].set_xlabel(in_words(clock))
    for panels, metric in zip(grid, metrics, strict=True):
        panels[0].set_ylabel(with_unit(metric))
        limit(panels, metric)
        show_percent(panels[0].yaxis, metric)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    title = ", ".join(groups[0].settings) if len(groups) > 1 else None
    figure.legend(handles, labels, title=title, loc="outside upper left", ncols=min(len(labels), 4), alignment="left")
    return figure


def limit(panels: Sequence[Axes], metric: str) -> None:
    """Let the lines fill the panels of a row, since bands of few runs would, and reach beyond 100 % or a loss below 0.

    A loss that ranges widely gets a logarithmic axis.
    """
    drawn = np.concatenate([np.asarray(line.get_ydata()) for axes in panels for line in axes.lines])
    low, high = drawn.min(), drawn.max()
    margin = 0.15 * (high - low) or 0.05 * abs(high) or 1.0
    if low > 0 and high > VAST_RANGE * low and not is_share(metric):
        make_logarithmic(panels[0], "y")
        panels[0].set_ylim(low / 2, high * 2)
    else:
        most = 1.01 if is_share(metric) else math.inf
        panels[0].set_ylim(max(low - margin, min(low, 0)), min(high + margin, most))


def show_percent(axis: Axis, metric: str) -> None:
    """Let the axis of an accuracy count in %."""
    if is_share(metric):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")


def scores(groups: Sequence[Group], metrics: Sequence[str], x: str = "", lines: str = "") -> Figure:
    """Means with 95 % intervals, and each run as a small dot; a panel for each metric.

    Over the numeric setting `x`, with a line for each value of a second one; without `x` a row for each group.
    """
    figure = Figure(figsize=(WIDTH, 3.4 if x else 0.42 * len(groups) + 1.1), layout="constrained")
    panels: Any = figure.subplots(1, len(metrics), squeeze=False, sharey=not x)[0]
    across, along, error = ("place", "value", "yerr") if x else ("value", "place", "xerr")
    names = [group.settings[lines] if lines else "" if x else group.label for group in groups]
    places = [group.numbers[x] if x else float(place) for place, group in enumerate(groups)]
    steps = pd.Series(names).factorize()[0] if lines else np.zeros(len(groups))
    beside = np.array(places) * (1 + 0.02 * steps)  # so that the marks of several lines do not hide each other
    below = beside + (0 if x else 0.22)  # and those of a row not its runs
    for axes, metric in zip(panels, metrics, strict=True):
        runs = pd.DataFrame({"name": names, "place": below, "value": [group.values(metric) for group in groups]})
        means, halves, _ = zip(*(group.interval(metric) for group in groups), strict=True)
        table = runs.assign(place=beside, value=means, half=halves)
        for index, (name, line) in enumerate(table.groupby("name", sort=False)):
            dots, colour = runs[runs["name"] == name].explode("value"), look(index)["color"]
            axes.scatter(dots[across], dots[along], s=13, c=colour, alpha=0.45, linewidth=0)
            bar: dict[str, Any] = {error: line["half"], "linestyle": "-" if x else "", "linewidth": 1.2, **look(index)}
            axes.errorbar(line[across], line[along], label=f"{lines} = {name}", capsize=3, **bar)
        if metric.startswith("gap/"):
            (axes.axhline if x else axes.axvline)(0, color=FAINT, linewidth=1)
        if is_wide(places if x else [value for group in groups for value in group.values(metric)]):
            make_logarithmic(axes, "x", ticks=sorted(set(places)) if x else None)
        show_percent(axes.yaxis if x else axes.xaxis, metric)
        axes.set_title(with_unit(metric), loc="left")
        axes.set_xlabel(x)
    if lines:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    if not x:
        panels[0].set_yticks(places, [f"{name:.44}" for name in names])
        panels[0].set(ylabel=", ".join(groups[0].settings), ylim=(len(groups) - 0.4, -0.6))  # the first on top
    return figure


def power_law_plot(fit: Fit, groups: Sequence[Group]) -> Figure:
    """The points of a fit that has an exponent, and its line, both axes logarithmic."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    points = pd.DataFrame(dict(zip("xy", fit.points(groups), strict=True))).sort_values("x")
    law: Any = power_law(points["x"], points["y"])
    exponent, line = law
    points = points[((points > 0) & np.isfinite(points)).all(axis=1)]
    fitted, label = np.exp(line.intercept) * points["x"] ** line.slope, f"power {shown_interval(exponent, '')}"
    axes.scatter(points["x"], points["y"], s=26, color=COLOURS[0], alpha=0.7, linewidth=0, label="runs")
    axes.plot(points["x"], fitted, color=COLOURS[1], label=label)
    make_logarithmic(axes, "x", ticks=sorted(points["x"].unique()))
    make_logarithmic(axes, "y")
    axes.set(xlabel=fit.x, ylabel=in_words(fit.y))
    axes.legend(labelcolor=INK)
    return figure
