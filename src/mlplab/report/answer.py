"""The answer in a sentence, put together from the numbers and never saying more than they do."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from mlplab.report.groups import Group, measured, swept
from mlplab.report.intervals import Interval, PowerLaw, difference, power_law, trend
from mlplab.report.runs import Run
from mlplab.report.settings import numbers, shown
from mlplab.report.study import Fit, Study, axes_of
from mlplab.report.words import count, in_words, is_share, smaller_is_better, with_interval

SIGNIFICANT = 0.05


def answer(study: Study, groups: Sequence[Group], score: str) -> list[str]:
    """The answer: a sentence that compares, and further ones on the trend, on each group, and on fitted exponents."""
    known = [group for group in groups if group.interval(score).n]
    if not known:
        return [f"No run finished with a {in_words(score)}: there is nothing to compare."]
    if len(known) == 1:
        return [alone(known[0], score, of=len(groups)), *fitted(study, known)]
    ranked = sorted(known, key=lambda group: group.interval(score).mean, reverse=not smaller_is_better(score))
    return [*best_and_next(ranked, score, study.baseline), *trends(study, known, score), *fitted(study, known)]


def alone(group: Group, score: str, *, of: int) -> str:
    """The only group with finished runs, of so many."""
    interval = group.interval(score)
    opening = f"Of {of} settings only {group.name} has finished runs: the" if of > 1 else "The"
    return f"{opening} {in_words(score)} is {with_interval(interval, score)} ({basis(interval)})."


def best_and_next(ranked: Sequence[Group], score: str, baseline: str) -> list[str]:
    """The best group against the baseline, or against the next; and the last."""
    best = ranked[0]
    bases = [group for group in ranked if baseline and baseline in (group.label, *map(shown, group.settings.values()))]
    other = next((group for group in bases if group is not best), ranked[1])
    ours, theirs = best.interval(score), other.interval(score)
    role = "the baseline" if bases and other is bases[0] else "the next"
    least = "lowest" if smaller_is_better(score) else "highest"
    if ours.mean == theirs.mean and ours.half_width == theirs.half_width == 0:
        same = with_interval(ours, score)
        return [f"{best.name} and {other.name} have the same {in_words(score)}, {same}, in every run."]
    if math.isclose(ours.mean, theirs.mean, rel_tol=1e-6):  # as far as numbers of 32 bits tell
        opening = f"{best.name} and {other.name} share the {least} {in_words(score)}, "
        rest = f"{with_interval(ours, score)} ({basis(ours)}) and {with_interval(theirs, score)} ({basis(theirs)})"
        return [f"{opening}{rest}{last_of(ranked, other, score)}."]
    sentence = (
        f"{best.name} has the {least} {in_words(score)}, {with_interval(ours, score)} ({basis(ours)}), against "
        f"{with_interval(theirs, score)} ({basis(theirs)}) of {other.name}, {role}: {verdict(best, other, score)}"
    )
    return [f"{sentence}{last_of(ranked, other, score)}."]


def last_of(ranked: Sequence[Group], other: Group, score: str) -> str:
    """The group at the end, unless it is the one spoken of."""
    last = ranked[-1]
    if last is other:
        return ""
    return f"; last of {len(ranked)} is {last.name} with {with_interval(last.interval(score), score)}"


def verdict(best: Group, other: Group, score: str) -> str:
    """Whether the runs tell two groups apart, by Welch's interval of the difference."""
    gap = difference(best.values(score), other.values(score))
    if gap is None:
        return "too few runs, or runs too much alike, to say how certain that is"
    overlap = "overlap" if best.interval(score).overlaps(other.interval(score)) else "do not overlap"
    scale, unit = (100, " percentage points") if is_share(score) else (1, "")
    low, high = (scale * (gap.mean - gap.half_width), scale * (gap.mean + gap.half_width))
    bounds = f"difference {scale * gap.mean:.3g}{unit}, 95 % interval {low:.3g} to {high:.3g}".replace("-", "−")
    if low <= 0 <= high:
        return f"the intervals {overlap}, and these runs do not tell the two apart ({bounds})"
    return f"the intervals {overlap}, and the two differ ({bounds})"


def trends(study: Study, groups: Sequence[Group], score: str) -> list[str]:
    """How the score goes with a numeric setting, over all runs or, with a second setting, for each of its values."""
    x, lines = axes_of(study, groups)
    if x is None or any(x not in group.numbers for group in groups) or len(swept(groups, x)) < 3:
        return []
    if lines is not None:
        return [best_of_each(groups, x, lines, score)]
    pairs = [(group.numbers[x], value) for group in groups for value in group.values(score)]
    found = trend(*zip(*pairs, strict=True))
    if found is None:
        return []
    rank = f"{found.correlation:.2f}".replace("-", "−")
    strength = f"Spearman's ρ = {rank}, p = {found.p_value:.1g}, {count(found.n, 'run')}"
    if found.p_value > SIGNIFICANT:
        return [f"No steady trend with {x} is seen ({strength})."]
    means = [group.interval(score).mean for group in sorted(groups, key=lambda group: group.numbers[x])]
    steps = [after - before for before, after in itertools.pairwise(means)]
    rises = found.correlation > 0
    steady = all(step >= 0 for step in steps) if rises else all(step <= 0 for step in steps)
    manner = "from each value to the next" if steady else "on the whole, not from each value to the next"
    return [f"The {in_words(score)} {'rises' if rises else 'falls'} with {x} {manner} ({strength})."]


def best_of_each(groups: Sequence[Group], x: str, lines: str, score: str) -> str:
    """For each value of one setting the best value of the other."""
    parts = []
    for value in swept(groups, lines):
        line = [group for group in groups if shown(group.settings[lines]) == shown(value)]
        pick = min if smaller_is_better(score) else max
        best = pick(line, key=lambda group: group.interval(score).mean)
        parts.append(f"{shown(best.settings[x])} at {shown(value)} ({with_interval(best.interval(score), score)})")
    return f"Best {x} for each {lines}: {', '.join(parts)}."


# Power laws


def fitted(study: Study, groups: Sequence[Group]) -> list[str]:
    """A sentence for each power law that the study asks for."""
    return [fit_sentence(fit, *points(fit, groups)) for fit in study.fits]


def points(fit: Fit, groups: Sequence[Group]) -> tuple[list[float], list[float]]:
    """x and y of each finished run; NaN where a run does not have them."""
    runs = [run for group in groups for run in group.runs]
    xs = [(numbers(fit.x, [run], [run.config.get(fit.x)]) or [measured(run, fit.x)])[0] for run in runs]
    return xs, [measured_at(run, fit) for run in runs]


def measured_at(run: Run, fit: Fit) -> float:
    """y at the first or the last row of the history that has it, or its mean over all rows."""
    values = run.columns.get(fit.y, np.array([]))
    known = values[np.isfinite(values)]
    if not len(known):
        return measured(run, fit.y)
    return float(known.mean() if fit.at == "mean" else known[0 if fit.at == "first" else -1])


def fit_sentence(fit: Fit, x: Sequence[float], y: Sequence[float]) -> str:
    law = power_law(x, y)
    if law is None:
        return f"No power law of {in_words(fit.y)} over {fit.x}: it takes three positive values, at two of {fit.x}."
    left_out = len(x) - law.n
    rest = f", {count(left_out, 'run')} without a positive value left out" if left_out else ""
    sentence = (
        f"The {in_words(fit.y)} goes as {fit.x} to the power {exponent(law)} "
        f"(95 % interval, {count(law.n, 'run')}{rest}, R² = {law.r_squared:.3f})"
    )
    if fit.expected is None:
        return f"{sentence}."
    inside = abs(law.exponent - fit.expected) <= law.half_width
    expected = f"{fit.expected:g}".replace("-", "−")
    return f"{sentence}; the expected {expected} lies {'within' if inside else 'outside'} that interval."


def exponent(law: PowerLaw) -> str:
    return f"{law.exponent:.3f} ± {law.half_width:.3f}".replace("-", "−")


def basis(interval: Interval) -> str:
    """What a mean stands on."""
    if interval.n == 1:
        return "1 run, so no interval"
    return f"n = {interval.n}" if math.isfinite(interval.half_width) else count(interval.n, "run")
