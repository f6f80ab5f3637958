"""Runs grouped over seeds and folds: the settings of each group, what was measured, what did not finish."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlplab.report.intervals import Interval, mean_interval
from mlplab.report.runs import Run
from mlplab.report.settings import is_repeated, numbers, settings, short_names, shown, value_label

ALL = "all runs"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their repetition only. `runs` are the finished ones, each repetition once."""

    settings: dict[str, Any]
    numbers: dict[str, float]  # of the settings that are numbers in all groups
    runs: list[Run]
    unfinished: list[Run]
    repeated: list[Run]  # finished, but of a repetition that is counted already

    @property
    def label(self) -> str:
        """`batch_size=8, lr=0.1`; the value alone where there is one setting."""
        values = [value_label(key, value) for key, value in self.settings.items()]
        if len(values) == 1:
            return values[0]
        names = short_names(list(self.settings)).values()
        return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)) or ALL

    @property
    def name(self) -> str:
        """The label as it reads in a sentence: "batch_size=8" where "8" alone says too little."""
        if len(self.settings) == 1 and not all(isinstance(value, str) for value in self.settings.values()):
            (key,) = self.settings
            return f"{short_names([key])[key]}={self.label}"
        return self.label

    def values(self, metric: str) -> list[float]:
        """The metric of each run that has it and where it is finite."""
        found = (measured(run, metric) for run in self.runs)
        return [value for value in found if math.isfinite(value)]

    def interval(self, metric: str) -> Interval:
        return mean_interval(self.values(metric))


def grouped(runs: Sequence[Run], *, first: Sequence[str] = ()) -> list[Group]:
    """The runs by their settings, in order of the values where these are numbers, else as they were started.

    Runs that failed before they had a config are in no group, unless there are no others.
    """
    if not any(run.config for run in runs):
        return [Group({}, {}, [], list(runs), [])]
    runs = [run for run in runs if run.config]
    chosen = settings(runs, first=first)
    as_numbers = {key: found for key, values in chosen.items() if (found := numbers(key, runs, values)) is not None}
    members: dict[tuple[str, ...], list[int]] = {}
    for index in range(len(runs)):
        members.setdefault(tuple(shown(values[index]) for values in chosen.values()), []).append(index)
    seen = {key: list(dict.fromkeys(map(shown, values))) for key, values in chosen.items()}

    def place(index: int) -> list[float]:
        return [
            as_numbers[key][index] if key in as_numbers else seen[key].index(shown(values[index]))
            for key, values in chosen.items()
        ]

    groups = []
    for indices in sorted(members.values(), key=lambda indices: place(indices[0])):
        counted, repeated = once_each([runs[index] for index in indices if runs[index].finished])
        groups.append(
            Group(
                settings={key: values[indices[0]] for key, values in chosen.items()},
                numbers={key: values[indices[0]] for key, values in as_numbers.items()},
                runs=counted,
                unfinished=[runs[index] for index in indices if not runs[index].finished],
                repeated=repeated,
            )
        )
    return groups


def once_each(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The latest run of each repetition, and the others: the same seed twice is no second sample."""
    latest = {repetition(run): run for run in runs}
    counted = [run for run in runs if latest[repetition(run)] is run]
    return counted, [run for run in runs if latest[repetition(run)] is not run]


def repetition(run: Run) -> tuple[tuple[str, str], ...]:
    """The seeds and folds of a run; a run without a seed in its config is one of its own."""
    found = sorted((key, shown(value)) for key, value in run.config.items() if is_repeated(key))
    return tuple(found) or (("folder", str(run.folder)),)


def measured(run: Run, name: str) -> float:
    """A metric, or one of the numbers that every result.json has; NaN where it is not known."""
    value = run.metrics.get(name, run.result.get(name))
    return float(value) if isinstance(value, int | float) else math.nan


def swept(groups: Sequence[Group], key: str) -> list[Any]:
    """The values that a setting takes, each once, in the order of the groups."""
    found = {shown(group.settings[key]): group.settings[key] for group in groups}
    if all(key in group.numbers for group in groups):
        place = {shown(group.settings[key]): group.numbers[key] for group in groups}
        return sorted(found.values(), key=lambda value: place[shown(value)])
    return list(found.values())


def common_overrides(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    """What was typed alike for all runs."""
    typed = [{f"{key}={value}" for key, value in run.overrides.items() if not is_repeated(key)} for run in runs]
    varying = set(itertools.chain.from_iterable(group.settings for group in groups))
    return sorted(item for item in set.intersection(*typed) if item.partition("=")[0] not in varying) if typed else []
