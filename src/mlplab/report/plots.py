"""Figures of groups of runs: curves over the course of training, final scores by their settings, a fitted power law."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mlplab.figures.style import COLOURS, FAINT, INK, VAST_RANGE, is_wide, look, make_logarithmic, make_plain
from mlplab.report.frames import Group
from mlplab.report.numbers import Interval, in_words, is_share, mean_interval, shown_interval, with_unit
from mlplab.report.study import Fit, swept

CLOCKS = ("updates", "samples_seen", "seconds")
POINTS = 100
WIDTH = 11.5  # inches, the width of a page


def curve(group: Group, clock: str, metric: str, *, logarithmic: bool = False) -> tuple[np.ndarray, Interval] | None:
    """x, and the mean at each with its 95 % interval, NaN for a single run; None without a history.

    The runs are brought onto one grid by linear interpolation, from where the last run's first value is to where the
    first run ends; where one ends before another begins, it is one point, of the last values.
    """
    lines = group.lines(clock, metric)
    if not lines:
        return None
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if end < start:
        last = np.array([x[-1] for x, _ in lines]).mean(keepdims=True)
        return last, mean_interval([y[-1:] for _, y in lines], metric)
    space = np.geomspace if logarithmic and start > 0 else np.linspace
    grid = space(start, end, 1 if start == end else POINTS)
    return grid, mean_interval([np.interp(grid, x, y) for x, y in lines], metric)  # (runs, points)


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
                    x, (mean, low, high, _) = found
                    axes.plot(x, mean, color=COLOURS[index], label=group.label, marker="o" if len(x) == 1 else None)
                    axes.fill_between(x, low, high, color=COLOURS[index], alpha=0.15, linewidth=0)
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
        if is_share(metric):
            panels[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    title = ", ".join(groups[0].settings) if len(groups) > 1 else None
    columns = math.ceil(len(labels) / math.ceil(len(labels) / 4)) if labels else 1  # all but the last equally long
    figure.legend(handles, labels, title=title, loc="outside upper left", ncols=columns, alignment="left")
    return figure


def limit(panels: Sequence[Axes], metric: str) -> None:
    """Let the lines fill the panels of a row, since bands of few runs would; logarithmic if a loss ranges widely."""
    drawn = np.concatenate([np.asarray(line.get_ydata()) for axes in panels for line in axes.lines])
    low, high = drawn.min(), drawn.max()
    if is_wide([low, high], VAST_RANGE) and not is_share(metric):
        make_logarithmic(panels[0], "y")
    margin = 0.1 * (high - low) or 0.05
    panels[0].set_ylim(max(low - margin, low / 2 if low > 0 else -math.inf), high + margin)


def scores(groups: Sequence[Group], metrics: Sequence[str], x: str = "", lines: str = "") -> Figure:
    """Means with 95 % intervals, and each run as a small dot; a panel for each metric.

    Over the numeric setting `x`, with a line for each value of a second one; without `x` a place for each group.
    """
    names = [group.settings[lines] if lines else "" for group in groups]
    places = [group.places[x] if x else float(place) for place, group in enumerate(groups)]
    table = pd.DataFrame({"line": names, "x": places, "group": groups})
    apart = 0.0 if x else 0.015 * len(groups)  # the runs of a place from its mean
    is_logarithmic = bool(x) and is_wide(places)
    step = 0.004 * (max(places) - min(places)) if x else 0.0  # between the marks of several lines
    figure = Figure(figsize=(WIDTH, 2.3 * len(metrics) + 1), layout="constrained")
    panels: Any = figure.subplots(len(metrics), squeeze=False, sharex=True)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        for index, name in enumerate(swept(groups, lines) if lines else [""]):
            line = table[table["line"] == name]
            beside = line["x"] * 1.02**index if is_logarithmic else line["x"] + step * index
            means, lows, highs, _ = np.transpose([group.interval(metric) for group in line["group"]])
            style: Any = {"linestyle": "-" if x else "", "linewidth": 1.2, "capsize": 3, **look(index)}
            axes.errorbar(beside, means, yerr=(means - lows, highs - means), label=f"{lines} = {name}", **style)
            of_runs = [(place, group.values(metric)) for place, group in zip(beside, line["group"], strict=True)]
            dots = np.array([(place - apart, value) for place, values in of_runs for value in values])
            axes.scatter(*dots.reshape(-1, 2).T, s=13, color=style["color"], alpha=0.45, linewidth=0)
        if metric.startswith("gap/"):
            axes.axhline(0, color=FAINT, linewidth=1)
        if is_wide([value for group in groups for value in group.values(metric)], VAST_RANGE):
            make_logarithmic(axes, "y")
        if is_share(metric):
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        axes.set_ylabel(with_unit(metric))
    if is_logarithmic:
        make_logarithmic(panels[-1], "x", ticks=sorted(set(places)))
    if not x:
        panels[-1].set_xticks(places, [f"{group.label:.44}" for group in groups], rotation=30, ha="right")
    panels[-1].set_xlabel(x or ", ".join(groups[0].settings))
    if lines:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def power_law_plot(fit: Fit, groups: Sequence[Group]) -> Figure:
    """The points of a fit that has an exponent, and its line, both axes logarithmic."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes, points = figure.subplots(), fit.points(groups)
    law: Any = fit.law(groups)
    exponent, line = law
    xs = np.unique(points["x"])
    axes.scatter(points["x"], points["y"], s=26, color=COLOURS[0], alpha=0.7, linewidth=0, label="runs")
    axes.plot(
        xs, np.exp(line.intercept) * xs**line.slope, color=COLOURS[1], label=f"power {shown_interval(exponent, '')}"
    )
    make_logarithmic(axes, "x", ticks=list(xs))
    make_logarithmic(axes, "y")
    axes.set(xlabel=fit.x, ylabel=in_words(fit.y))
    axes.legend(labelcolor=INK)
    return figure
