"""What a study asks and claims: from sweep.json, or from the section `study` of the runs' configs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlplab.report.groups import Group, swept
from mlplab.report.runs import Run
from mlplab.report.words import in_words

SCORES = ("test/acc", "val/acc")
MOST_METRICS = 6
PLAIN = ("name", "question", "claim", "source", "x", "group", "baseline", "score", "pictures")


@dataclass(frozen=True)
class Fit:
    """A power law to be fitted: y over x. `at` says which value of y a run's history gives: first, last, or mean."""

    y: str
    x: str
    at: str = "last"
    expected: float | None = None


@dataclass(frozen=True)
class Study:
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
    metrics: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()


def study_of(sweep: dict[str, Any], runs: Sequence[Run]) -> Study:
    """The study of a sweep; of a set of runs, the one that all of them belong to."""
    values = sweep.get("study")
    if not isinstance(values, dict):
        values = runs[0].study if all(run.study == runs[0].study for run in runs) else {}
    return Study(
        **{key: text(values.get(key)) for key in PLAIN},
        metrics=tuple(map(str, listed(values.get("metrics"))))[:MOST_METRICS],
        fits=tuple(fit for item in listed(values.get("fit")) if (fit := fit_of(item))),
    )


def fit_of(values: Any) -> Fit | None:
    """A fit as the study words it; None where x or y is missing."""
    if not isinstance(values, dict) or not text(values.get("y")) or not text(values.get("x")):
        return None
    at, expected = text(values.get("at")), values.get("expected")
    return Fit(
        y=text(values["y"]), x=text(values["x"]), at=at if at in ("first", "mean") else "last",
        expected=float(expected) if isinstance(expected, int | float) else None,
    )  # fmt: skip


def text(value: Any) -> str:
    """A plain value as text, an empty one for nothing."""
    return "" if value is None or isinstance(value, dict | list) else " ".join(str(value).split())


def listed(value: Any) -> list[Any]:
    """A value that may be given alone or as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def score_of(study: Study, groups: Sequence[Group]) -> str:
    """The metric that decides: the test accuracy where every finished run has it, else the validation accuracy.

    A study may name another; one with metrics but neither of these two among them is decided by its first.
    """
    runs = [run for group in groups for run in group.runs]
    accuracies = [name for name in SCORES if not study.metrics or name in study.metrics]
    names = [name for name in (study.score, *accuracies, *study.metrics) if name]
    known = [name for name in names if runs and all(name in run.metrics for run in runs)]
    return known[0] if known else SCORES[-1]


def question_of(study: Study, groups: Sequence[Group], score: str) -> str:
    """The study's question; for any other set of runs, what its settings ask."""
    if study.question:
        return study.question
    keys = list(groups[0].settings)
    if not keys:
        return f"What {in_words(score)} does this setting reach?"
    return f"How does the {in_words(score)} depend on {' and '.join(keys[:4])}{' …' if len(keys) > 4 else ''}?"


def axes_of(study: Study, groups: Sequence[Group]) -> tuple[str | None, str | None]:
    """The settings for the horizontal axis and for the lines of a plot: those the study names, else those swept.

    Of two settings the one with more different numbers is the horizontal one. None, None where no setting, or more
    than two, would have to be drawn.
    """
    keys = list(groups[0].settings)
    if study.x in keys:
        others = [key for key in keys if key != study.x]
        if len(others) <= 1:
            return study.x, others[0] if others else None
    if len(keys) == 1:
        return keys[0], None
    if len(keys) == 2:
        x = max(keys, key=lambda key: (key in groups[0].numbers, len(swept(groups, key))))
        return x, next(key for key in keys if key != x)
    return None, None
