"""Final scores of groups: by a swept value with intervals, as a heat map of two, and with a fitted power law."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlplab.figures.style import FAINT, INK, as_svg, is_wide, look, make_logarithmic
from mlplab.report.groups import Group, swept
from mlplab.report.intervals import Interval, PowerLaw
from mlplab.report.settings import shown, value_label
from mlplab.report.words import as_title, in_words, is_share, shown_interval, with_unit

COLOUR_MAP = "cividis"  # the same order of brightness for every kind of colour vision
LONGEST_LABEL = 44
WIDTH = 11.5  # inches, the width of a page


def scale_of(metric: str) -> float:
    return 100 if is_share(metric) else 1


@as_svg
def scores_by_label(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    """A row for each group: mean, 95 % interval, and each run as a small dot; a panel for each metric."""
    figure = Figure(figsize=(WIDTH, 0.42 * len(groups) + 1.1), layout="constrained")
    panels: Any = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    places = np.arange(len(groups))[::-1]  # the first on top
    for axes, metric in zip(panels, metrics, strict=True):
        scale = scale_of(metric)
        for index, (place, group) in enumerate(zip(places, groups, strict=True)):
            draw_runs(axes, group, metric, index, place=float(place), horizontal=True)
        if metric.startswith("gap/"):
            axes.axvline(0, color=FAINT, linewidth=1)
        every = [scale * value for group in groups for value in group.values(metric)]
        if is_wide(every):
            make_logarithmic(axes, "x")
        axes.set_title(as_title(metric), loc="left")
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(places, [shortened(group.label) for group in groups])
    panels[0].set_ylabel(", ".join(groups[0].settings))
    panels[0].set_ylim(-0.6, len(groups) - 0.4)
    return figure


@as_svg
def scores_by_number(groups: Sequence[Group], metrics: Sequence[str], x: str, lines: str | None) -> Figure:
    """Each metric over a numeric setting, one line for each value of a second setting."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    panels: Any = figure.subplots(1, len(metrics), squeeze=False)[0]
    ticks = sorted({group.numbers[x] for group in groups})
    names = swept(groups, lines) if lines else [None]
    logarithmic = is_wide(ticks)
    for axes, metric in zip(panels, metrics, strict=True):
        for index, name in enumerate(names):
            line = [group for group in groups if lines is None or shown(group.settings[lines]) == shown(name)]
            line = [group for group in line if group.interval(metric).n]
            means = [scale_of(metric) * group.interval(metric).mean for group in line]
            places = beside([group.numbers[x] for group in line], index - (len(names) - 1) / 2, ticks, logarithmic)
            axes.plot(places, means, color=look(index)["color"], linewidth=1.2, alpha=0.7)
            for group, place in zip(line, places, strict=True):
                label = f"{lines} = {value_label(lines, name)}" if lines and group is line[0] else None
                draw_runs(axes, group, metric, index, place=place, horizontal=False, label=label)
        if metric.startswith("gap/"):
            axes.axhline(0, color=FAINT, linewidth=1)
        if logarithmic:
            make_logarithmic(axes, "x", ticks=ticks)
        axes.set_title(as_title(metric), loc="left")
        axes.set_xlabel(x)
    if lines:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=min(len(names), 4))
    return figure


def beside(places: list[float], steps: float, ticks: list[float], logarithmic: bool) -> list[float]:
    """The places, moved a little to one side, so that the marks of several lines do not hide each other."""
    if logarithmic:
        return [place * (max(ticks) / min(ticks)) ** (0.012 * steps) for place in places]
    return [place + 0.012 * steps * (max(ticks) - min(ticks)) for place in places]


def draw_runs(
    axes: Any, group: Group, metric: str, index: int, *, place: float, horizontal: bool, label: str | None = None
) -> None:
    """Mean and interval of a group, and its runs as faint dots."""
    interval, scale = group.interval(metric), scale_of(metric)
    if not interval.n:
        return
    values = [scale * value for value in group.values(metric)]
    error = None if math.isnan(interval.half_width) else scale * interval.half_width
    bar: dict[str, Any] = {
        "capsize": 3,
        "markersize": 6.5,
        "linestyle": "none",
        "zorder": 3,
        "label": label,
        **look(index),
    }
    dots: dict[str, Any] = {"s": 13, "color": look(index)["color"], "alpha": 0.45, "linewidth": 0, "zorder": 2}
    if horizontal:
        axes.scatter(values, [place - 0.22] * len(values), **dots)
        axes.errorbar([scale * interval.mean], [place], xerr=error, **bar)
    else:
        axes.scatter([place] * len(values), values, **dots)
        axes.errorbar([place], [scale * interval.mean], yerr=error, **bar)


@as_svg
def heat_maps(groups: Sequence[Group], metrics: Sequence[str], x: str, y: str) -> Figure:
    """The mean of each metric for every pair of two settings, written into its cell with half the 95 % interval."""
    columns, rows = swept(groups, x), swept(groups, y)
    width, height = 1.9 + 0.95 * len(columns), 1.2 + 0.6 * len(rows)
    side_by_side = width * len(metrics) <= WIDTH
    figure = Figure(
        figsize=(width * len(metrics), height) if side_by_side else (min(WIDTH, width), height * len(metrics)),
        layout="constrained",
    )
    shape = (1, len(metrics)) if side_by_side else (len(metrics), 1)
    panels: Any = figure.subplots(*shape, squeeze=False)
    for axes, metric in zip(panels.flat, metrics, strict=True):
        cells = {(shown(group.settings[x]), shown(group.settings[y])): group.interval(metric) for group in groups}
        draw_cells(figure, axes, [[cells.get((shown(a), shown(b))) for a in columns] for b in rows], metric)
        axes.set_xticks(np.arange(len(columns)) + 0.5, [shortened(value_label(x, value)) for value in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [shortened(value_label(y, value)) for value in rows])
        axes.set(xlabel=x, ylabel=y)
        axes.set_title(with_unit(metric), loc="left")
    return figure


def draw_cells(figure: Figure, axes: Any, cells: list[list[Interval | None]], metric: str) -> None:
    """Rows of cells, the first at the bottom; a pair of settings without a finished run is empty."""
    means = np.array([[cell.mean if cell else math.nan for cell in row] for row in cells]) * scale_of(metric)
    mesh = axes.pcolormesh(np.ma.masked_invalid(means), cmap=COLOUR_MAP, edgecolors="none")
    low, high = mesh.get_clim()
    for (row, column), mean in np.ndenumerate(means):
        cell = cells[row][column]
        if cell is None or not cell.n:
            axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center")
            continue
        text = shown_interval(cell, metric).replace(" ± ", "\n± ")
        colour = "#000000" if mean - low > 0.55 * (high - low) else "#ffffff"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=9, color=colour)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh).outline.set_visible(False)


@as_svg
def power_law_plot(x: Sequence[float], y: Sequence[float], law: PowerLaw, names: tuple[str, str]) -> Figure:
    """The points of a fit and its line, both axes logarithmic."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes: Any = figure.subplots()
    kept = [(a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0 and math.isfinite(a * b)]
    axes.scatter(*zip(*kept, strict=True), s=26, color=look(0)["color"], alpha=0.7, linewidth=0, label="runs")
    ends = np.array([min(a for a, _ in kept), max(a for a, _ in kept)])
    label = f"power {law.exponent:.3f} ± {law.half_width:.3f}".replace("-", "−")
    axes.plot(ends, law.factor * ends**law.exponent, color=look(1)["color"], label=label)
    make_logarithmic(axes, "x", ticks=sorted({a for a, _ in kept}))
    make_logarithmic(axes, "y")
    axes.set(xlabel=names[1], ylabel=in_words(names[0]))
    axes.legend(labelcolor=INK)
    return figure


def shortened(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
