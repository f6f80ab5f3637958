"""The trials of a search as figures of a page: scores in turn, by setting, by all settings, and while they trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from mlplab.figures.style import COLOURS, FAINT, INK, PAPER, as_svg, make_logarithmic
from mlplab.report.settings import short_names
from mlplab.report.words import is_share, with_unit
from mlplab.tuning.search import Search, choice_name, short_text

SHADES = ListedColormap([(*to_rgb(COLOURS[0]), alpha) for alpha in np.linspace(0.12, 1, 16)])
"""One colour from pale to full, so that it stands out from a light page and from a dark one."""
BEST: dict[str, Any] = {"color": COLOURS[1], "label": "best"}
PRUNED: dict[str, Any] = {"color": COLOURS[3], "marker": "x", "linestyle": ""}
SPREAD = 0.05
"""How far trials with the same choice lie apart, in heights of the axis."""
MOST_LONG_NAMES = 8
"""Letters of all choices together, for each inch of a panel."""


@as_svg
def in_turn(trials: Sequence[FrozenTrial], search: Search) -> Figure:
    """The score of each trial, the best so far, and where pruned trials were given up."""
    figure, axes = one_panel(search)
    done = complete(trials)
    scores = [score(trial, search) for trial in done]
    axes.plot([trial.number for trial in done], scores, "o", color=COLOURS[0], label="complete")
    if pruned := [trial for trial in trials if trial.state == TrialState.PRUNED and trial.intermediate_values]:
        ends = [scaled(trial.intermediate_values[max(trial.intermediate_values)], search) for trial in pruned]
        axes.plot([trial.number for trial in pruned], ends, **PRUNED, label="pruned, its last score")
    so_far = (np.minimum if search.mode == "min" else np.maximum).accumulate(scores)
    numbers = [*(trial.number for trial in done), trials[-1].number]
    axes.step(numbers, [*so_far, so_far[-1]], where="post", color=COLOURS[1], label="best so far")
    axes.set_xlabel("trial")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@as_svg
def by_setting(trials: Sequence[FrozenTrial], search: Search) -> Figure:
    """The scores over the values of each setting."""
    done, keys = complete(trials), list(search.space)
    best, columns = best_of(done, search), min(len(keys), 4)
    lines = -(-len(keys) // columns)
    figure = Figure(figsize=(11.5, 3.0 * lines + 0.4), layout="constrained")
    grid: Any = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(keys) :]:
        axes.set_visible(False)
    for axes, key in zip(grid.flat, keys, strict=False):
        domain = search.space[key]
        axes.plot(places(domain, key, done), [score(trial, search) for trial in done], "o", color=COLOURS[0],
                  alpha=0.6, label="complete")  # fmt: skip
        axes.plot(places(domain, key, [best]), [score(best, search)], "D", markersize=8, **BEST)
        axes.set_xlabel(key)
        set_axis(axes, domain, inches=11.5 / columns)
    for row in grid:
        row[0].set_ylabel(with_unit(search.monitor))
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


@as_svg
def together(trials: Sequence[FrozenTrial], search: Search) -> Figure:
    """A line for each trial through the values of all settings to its score, the better the stronger."""
    done = sorted(complete(trials), key=lambda trial: score(trial, search), reverse=search.mode == "min")
    scores = [score(trial, search) for trial in done]
    low, high = min(scores), max(scores)
    shades = SHADES if search.mode == "max" else SHADES.reversed()
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1), shades)
    heights = [*(relative(domain, places(domain, key, done)) for key, domain in search.space.items()),
               [(value - low) / (high - low) if high > low else 0.5 for value in scores]]  # fmt: skip
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for trial, value, *line in zip(done, scores, *heights, strict=True):
        is_best = trial is best_of(done, search)
        style = {**BEST, "linewidth": 2.6, "zorder": 3} if is_best else {"color": colours.to_rgba(value)}
        axes.plot(range(len(line)), line, **style)
    scores_only = {"low": low, "high": high}
    names = [*short_names(list(search.space)).values(), with_unit(search.monitor)]
    for place, domain in enumerate([*search.space.values(), scores_only]):
        axes.axvline(place, color=FAINT, linewidth=1, zorder=1)
        for height, name in marks(domain):
            axes.text(place + 0.02, height, name, va="center", fontsize=9, zorder=4,
                      bbox={"color": PAPER, "alpha": 0.8, "pad": 1, "linewidth": 0})  # fmt: skip
    axes.set(xlim=(-0.1, len(names) - 0.7), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(colours, ax=axes, label=with_unit(search.monitor), pad=0.01)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left")
    return figure


@as_svg
def while_training(trials: Sequence[FrozenTrial], search: Search) -> Figure:
    """The scores of each trial after each of its validations."""
    figure, axes = one_panel(search)
    best = best_of(complete(trials), search)
    looks: dict[TrialState, dict[str, Any]] = {
        TrialState.COMPLETE: {"color": COLOURS[0], "label": "complete"},
        TrialState.PRUNED: {"color": COLOURS[3], "label": "pruned", "marker": "x", "markevery": [-1]},
        TrialState.FAIL: {"color": COLOURS[4], "label": "failed", "marker": "v", "markevery": [-1]},
    }
    for trial in trials:
        if trial.intermediate_values and trial.state in looks:
            style = {**BEST, "linewidth": 2.6, "zorder": 3} if trial is best else {"alpha": 0.5} | looks[trial.state]
            steps = sorted(trial.intermediate_values)
            axes.plot(steps, [scaled(trial.intermediate_values[step], search) for step in steps], **style)
    axes.set_xlabel("validation")
    handles, labels = axes.get_legend_handles_labels()
    one_of_each = dict(zip(labels, handles, strict=True))
    figure.legend(one_of_each.values(), one_of_each.keys(), loc="outside upper left", ncols=4)
    return figure


@as_svg
def shares(importances: Mapping[str, float]) -> Figure:
    """How much of the differences between the scores each setting accounts for."""
    figure = Figure(figsize=(11.5, 0.45 * len(importances) + 0.9), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(importances), list(importances.values()), color=COLOURS[0])
    axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="importance", xlim=(0, 1.08 * max(importances.values())))
    return figure


# Trials


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]


def best_of(trials: Sequence[FrozenTrial], search: Search) -> FrozenTrial:
    """The one with the best score, the earliest of equal ones."""
    sign = 1 if search.mode == "min" else -1
    return min(trials, key=lambda trial: (sign * score(trial, search), trial.number))


def score(trial: FrozenTrial, search: Search) -> float:
    return scaled(float(trial.value or 0.0), search)


def scaled(value: float, search: Search) -> float:
    """A score as the page shows it: shares in %."""
    return 100 * value if is_share(search.monitor) else value


# Axes


def one_panel(search: Search) -> tuple[Figure, Axes]:
    """Scores over whole numbers."""
    figure = Figure(figsize=(11.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_ylabel(with_unit(search.monitor))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure, axes


def names_of(domain: Mapping[str, Any]) -> list[str]:
    return [short_text(choice_name(choice)) for choice in domain["choices"]]


def places(domain: Mapping[str, Any], key: str, trials: Sequence[FrozenTrial]) -> list[float]:
    """Where the values of a setting lie on its axis: choices in their order, numbers as they are."""
    values = [trial.params[key] for trial in trials]
    if "choices" in domain:
        names = names_of(domain)
        return [float(names.index(short_text(value))) for value in values]
    return [float(value) for value in values]


def relative(domain: Mapping[str, Any], values: Sequence[float]) -> list[float]:
    """Places on the axis of a setting as heights from 0 to 1; equal choices a little apart."""
    if "choices" in domain:
        last = len(domain["choices"]) - 1
        apart = SPREAD / max(len(values) - 1, 1)
        middle = (len(values) - 1) / 2
        return [(value / last if last else 0.5) + apart * (i - middle) for i, value in enumerate(values)]
    change = math.log if domain.get("log") else float
    low, high = change(domain["low"]), change(domain["high"])
    return [(change(value) - low) / (high - low) for value in values]


def marks(domain: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Heights from 0 to 1 and the values that lie there."""
    if "choices" in domain:
        last = len(domain["choices"]) - 1
        return [(i / last if last else 0.5, name) for i, name in enumerate(names_of(domain))]
    low, high = domain["low"], domain["high"]
    if low == high:
        return [(0.5, short_text(float(low)))]
    middle = math.sqrt(low * high) if domain.get("log") else (low + high) / 2
    return [(0, short_text(low)), (0.5, short_text(float(middle))), (1, short_text(high))]


def set_axis(axes: Axes, domain: Mapping[str, Any], *, inches: float) -> None:
    """The horizontal axis of a setting."""
    if "choices" in domain:
        names = names_of(domain)
        crowded = sum(map(len, names)) > MOST_LONG_NAMES * inches
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
        axes.set_xticks(range(len(names)), names, **slanted)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif domain.get("log"):
        make_logarithmic(axes, "x")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(domain["low"], int)))
