"""What a study asks and claims, and the answer, put together from the numbers and never saying more than they do."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mlplab.report.frames import Group, as_numbers, listed
from mlplab.report.numbers import (
    Interval,
    difference,
    in_words,
    is_share,
    number,
    shown_value,
    smaller_is_better,
    with_interval,
)

SCORES = ("test/acc", "val/acc")


class Fit(NamedTuple):
    """A power law to be fitted: y over x. `at` says which value of y a run's history gives: first, last, or mean."""

    y: str
    x: str
    at: str = "last"
    expected: float = math.nan

    def points(self, groups: Sequence[Group]) -> pd.DataFrame:
        """x and y of each finished run that has both; a power law is fitted to positive finite numbers only."""
        runs, history = pd.concat([group.runs for group in groups]), pd.concat([group.history for group in groups])
        of_history = history.reindex(columns=["run", self.y]).groupby("run")[self.y].agg(self.at)
        y = of_history.reindex(runs.index)
        if self.at == "last":  # what a run came to, where that is known
            y = as_numbers(runs, self.y).fillna(y)
        points = pd.DataFrame({"x": as_numbers(runs, self.x), "y": y})
        return points[((points > 0) & np.isfinite(points)).all(axis=1)]

    def law(self, groups: Sequence[Group]) -> tuple[Interval, Any] | None:
        """The exponent, and scipy's line through the logarithms; None with less than three points, or one x."""
        points = self.points(groups)
        if len(points) < 3 or points["x"].nunique() < 2:
            return None
        line = stats.linregress(np.log(points["x"]), np.log(points["y"]))
        half = line.stderr * stats.t.ppf(0.975, len(points) - 2)
        return Interval(line.slope, line.slope - half, line.slope + half, len(points)), line


class Study(NamedTuple):
    """The section `study` of a config: its text, and what its report shows. All of it may be left out.

    `metrics` and `fit` are one or a list; `fit: {y: grad/noise, x: data.batch_size, at: first, expected: -1}`.
    """

    name: str = ""
    question: str = ""
    claim: str = ""
    source: str = ""
    x: str = ""  # the setting on the horizontal axis, as a dotted key
    group: str = ""  # the setting that makes the lines
    baseline: str = ""  # the value of the group that the best is compared with, e.g. none
    score: str = ""  # the metric that decides, where it is not the test or validation accuracy
    pictures: str = ""  # a figure of each run to be shown side by side: the name of its file without .png
    metrics: Sequence[str] = ()
    fits: Sequence[Fit] = ()


def study_of(values: dict[str, Any]) -> Study:
    """The study that a config or a sweep.json describes, as far as it is of the right types."""
    texts = {key: str(values.get(key) or "").strip() for key in Study._fields[:-2]}
    fits = [
        Fit(str(fit["y"]), str(fit["x"]), fit.get("at", "last"), number(fit.get("expected")))
        for fit in listed(values.get("fit"))
        if isinstance(fit, dict) and {"x", "y"} <= fit.keys() and fit.get("at", "last") in ("first", "last", "mean")
    ]
    return Study(**texts, metrics=[str(metric) for metric in listed(values.get("metrics"))][:6], fits=fits)


def score_of(study: Study, groups: Sequence[Group]) -> str:
    """The metric that decides: the test accuracy where every finished run has it, else the validation accuracy.

    A study may name another; one with metrics but neither of these two among them is decided by its first.
    """
    runs = pd.concat([group.runs for group in groups])
    known = runs["metrics"].dropna(axis=1) if len(runs) else ()
    accuracies = [name for name in SCORES if not study.metrics or name in study.metrics]
    return next((name for name in (study.score, *accuracies, *study.metrics) if name in known), SCORES[-1])


def swept(groups: Sequence[Group], key: str) -> list[str]:
    """The values that a setting takes, each once, in order."""
    ordered = sorted(groups, key=lambda group: group.places[key])
    return list(dict.fromkeys(group.settings[key] for group in ordered))


def axes_of(study: Study, groups: Sequence[Group]) -> tuple[str, str]:
    """The settings for the horizontal axis and for the lines of a plot: those the study names, else those swept.

    Of two settings the one with more different numbers is the horizontal one. Empty where no setting, or more than two,
    would have to be drawn.
    """
    keys = list(groups[0].settings)
    if not 1 <= len(keys) <= 2:
        return "", ""
    x = max(keys, key=lambda key: (key == study.x, groups[0].has_number(key), len(swept(groups, key))))
    return x, next((key for key in keys if key != x), "")


# The answer


def answer(study: Study, groups: Sequence[Group], score: str) -> list[str]:
    """The answer: a sentence that compares, and further ones on each value of a second setting, and on fits."""
    known = [group for group in groups if group.values(score)]
    if not known:
        return [f"No run finished with a {in_words(score)}: there is nothing to compare."]
    fits = [fit_sentence(fit, known) for fit in study.fits]
    if len(known) == 1:
        return [f"The {in_words(score)} of {known[0].name} is {with_basis(known[0], score)}.", *fits]
    x, lines = axes_of(study, known)
    if lines and known[0].has_number(x) and len(swept(known, x)) > 2:
        fits.insert(0, best_of_each(known, x, lines, score))
    return [best_and_next(ranked(known, score), score, study.baseline), *fits]


def ranked(groups: Sequence[Group], score: str) -> list[Group]:
    """The best group first."""
    return sorted(groups, key=lambda group: group.interval(score).mean, reverse=not smaller_is_better(score))


def winner(groups: Sequence[Group], score: str) -> Group | None:
    """The best group, where the runs tell it apart from every other."""
    order = ranked([group for group in groups if group.values(score)], score)
    gaps = [difference(order[0].values(score), other.values(score), score) for other in order[1:]]
    return order[0] if gaps and all(map(told_apart, gaps)) else None


def told_apart(gap: Interval | None) -> bool:
    """Whether two groups whose difference has this interval differ."""
    return gap is not None and not gap.low <= 0 <= gap.high


def best_and_next(groups: Sequence[Group], score: str, baseline: str) -> str:
    """The best group against the baseline, or against the next, and whether the runs tell them apart."""
    best, next_best = groups[:2]

    def settings_shared(group: Group) -> int:
        return len(best.settings.items() & group.settings.items())

    def is_base(group: Group) -> bool:
        return bool(baseline) and baseline in (group.label, *group.settings.values())

    bases = [] if is_base(best) else list(filter(is_base, groups))
    other, role = (max(bases, key=settings_shared), "the baseline") if bases else (next_best, "the next")
    least = "lowest" if smaller_is_better(score) else "highest"
    opening = (
        f"{best.name} has the {least} {in_words(score)}, {with_basis(best, score)}, "
        f"against {with_basis(other, score)} of {other.name}, {role}"
    )
    gap = difference(best.values(score), other.values(score), score)
    if gap is None:
        return f"{opening}: too few runs, or runs too much alike, to say how certain that is."
    unit = " percentage points" if is_share(score) else ""
    mean, low, high = (shown_value(value, score) for value in gap[:3])
    verdict = "the two differ" if told_apart(gap) else "these runs do not tell the two apart"
    return f"{opening}: {verdict} (difference {mean}{unit}, 95 % interval {low} to {high})."


def best_of_each(groups: Sequence[Group], x: str, lines: str, score: str) -> str:
    """For each value of one setting the best value of the other."""
    best = {group.settings[lines]: group for group in reversed(ranked(groups, score))}
    each = [(best[value], value) for value in swept(groups, lines)]
    parts = [f"{group.settings[x]} at {value} ({with_interval(group.interval(score), score)})" for group, value in each]
    return f"Best {x} for each {lines}: {', '.join(parts)}."


def fit_sentence(fit: Fit, groups: Sequence[Group]) -> str:
    """The exponent of a power law that the study asks for, beside the one that it expects."""
    law = fit.law(groups)
    if law is None:
        return f"No power law of {in_words(fit.y)} over {fit.x}: it takes three positive values, at two of {fit.x}."
    exponent, line = law
    expected = "" if math.isnan(fit.expected) else f", expected {shown_value(fit.expected, '')}"
    basis = f"95 % interval, {exponent.n} of {sum(len(group.runs) for group in groups)} runs, R² {line.rvalue**2:.3f}"
    return f"The {in_words(fit.y)} goes as {fit.x} to the power {with_interval(exponent, '')}{expected} ({basis})."


def with_basis(group: Group, score: str) -> str:
    """A mean with its interval, and what it stands on."""
    interval = group.interval(score)
    return f"{with_interval(interval, score)} ({f'n = {interval.n}' if interval.n > 1 else '1 run, so no interval'})"
