"""The numbers of many runs as tables: a row per group, a row per run, scores at equal budgets."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mlplab.report.curves import CLOCKS, points
from mlplab.report.groups import Group, measured
from mlplab.report.intervals import Interval, mean_interval
from mlplab.report.page import Table
from mlplab.report.runs import Run
from mlplab.report.settings import compared, differing, is_repeated, shown, value_label
from mlplab.report.words import in_words, shown_interval, shown_value, smaller_is_better, with_unit

SCORES = ("train/acc", "val/acc", "best/val/acc", "test/acc", "gap/acc", "val/loss")
COSTS = ("updates", "seconds", "fit_seconds")
FACTS = ("batch_size", "updates_per_epoch", "parameters", "updates", "epochs", "samples_seen", "fit_seconds")
ABOUT = (
    "stop_reason",
    "error",
    "started",
    "finished",
    "git_commit",
    "hardware",
    "weights_digest",
    "config_digest",
    "command",
)
SIMILAR = 1.05
"""Budgets that differ by less than this factor need no table of their own."""


def group_table(groups: Sequence[Group], metrics: Sequence[str], score: str) -> Table:
    """A row per group: settings, number of runs, means with intervals; the group with the best score is marked."""
    keys = list(groups[0].settings)
    unfinished = any(group.unfinished for group in groups)
    names = [name for name in dict.fromkeys([*metrics, *SCORES, *COSTS]) if any(group.values(name) for group in groups)]
    if "seconds" in names:  # of training alone, which says more than the time of the fit with figures and checkpoints
        names.remove("fit_seconds")
    rows = []
    for group in groups:
        cells = [value_label(key, group.settings[key]) for key in keys] or [group.label]
        cells.append(str(len(group.runs)))
        if unfinished:
            cells.append(statuses(group.unfinished))
        rows.append(cells + [shown_interval(group.interval(name), name) for name in names])
    headings = [*(keys or [""]), "n", *(["not finished"] if unfinished else []), *map(with_unit, names)]
    return Table(headings, rows, num_names=len(keys) or 1, marked=best_row(groups, score))


def best_row(groups: Sequence[Group], score: str) -> int | None:
    """The index of the group with the best mean; None where there is nothing to choose."""
    means = {index: group.interval(score).mean for index, group in enumerate(groups) if group.interval(score).n}
    if len(means) < 2:
        return None
    return (min if smaller_is_better(score) else max)(means, key=means.__getitem__)


def statuses(runs: Sequence[Run]) -> str:
    """ "2 diverged, 1 failed"."""
    found = [run.status for run in runs]
    return ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(found))


def budget_table(groups: Sequence[Group], metric: str = "val/acc") -> Table | None:
    """The metric of each group at the same number of updates, of samples seen, and of seconds.

    The budget is what the run that ended first had spent; a run counts with its last validation by then. None where
    all groups have spent the same, or have no history.
    """
    headings, columns = [], []
    for clock in CLOCKS:
        ends = [line[0][-1] for group in groups for run in group.runs if (line := points(run, clock, metric))]
        if len(ends) < 2 or not max(ends) > SIMILAR * min(ends):
            continue
        budget = min(ends)
        headings.append(f"{with_unit(metric)} at {shown_value(budget, clock)} {in_words(clock)}")
        columns.append([shown_interval(at_budget(group, clock, metric, budget), metric) or "–" for group in groups])
    if not columns or len(groups) < 2:
        return None
    return Table(["", *headings], [[group.label, *cells] for group, *cells in zip(groups, *columns, strict=True)])


def at_budget(group: Group, clock: str, metric: str, budget: float) -> Interval:
    """The metric at each run's last validation within the budget, as far as there was one."""
    values = []
    for run in group.runs:
        line = points(run, clock, metric)
        if line is not None and line[0][0] <= budget:
            values.append(line[1][line[0] <= budget][-1])
    return mean_interval(values)


# Every run


def summary(runs: Sequence[Run], groups: Sequence[Group], below: Path) -> pd.DataFrame:
    """A row per run: where it is, how it ended, its settings, all metrics, what it cost, and what it was made with.

    The folders are relative to `below` where they lie in it.
    """
    counted = {run.folder for group in groups for run in group.runs}
    label = {
        run.folder: group.label for group in groups for run in (*group.runs, *group.unfinished, *group.repeated)
    }  # fmt: skip
    configs = [compared(run) for run in runs]
    differences = differing([config for run, config in zip(runs, configs, strict=True) if run.config])
    keys = dict.fromkeys([*(key for group in groups for key in group.settings), *differences])
    repeated = dict.fromkeys(key for run in runs for key in run.config if is_repeated(key))
    metrics = dict.fromkeys(sorted({name for run in runs for name in run.metrics}))
    return pd.DataFrame(
        [
            {
                "folder": location(run.folder, below), "status": run.status, "counted": run.folder in counted,
                "group": label.get(run.folder, ""),
                **{key: cell(config.get(key, run.overrides.get(key))) for key in keys},
                **{key: cell(run.config.get(key)) for key in repeated},
                **{name: run.metrics.get(name, math.nan) for name in metrics},
                **{name: measured(run, name) for name in FACTS},
                **{name: cell(run.result.get(name)) for name in ABOUT},
            }
            for run, config in zip(runs, configs, strict=True)
        ]
    ).convert_dtypes()  # fmt: skip


def cell(value: Any) -> Any:
    """A value for a file of comma-separated values."""
    return (
        value
        if isinstance(value, int | float) and not isinstance(value, bool)
        else None
        if value is None
        else shown(value)
    )


def location(folder: Path, below: Path) -> str:
    """The folder relative to another that holds it, else as it was given."""
    inner, outer = folder.absolute(), below.absolute()
    return str(inner.relative_to(outer)) if inner.is_relative_to(outer) else str(folder)


def run_table(runs: Sequence[Run], groups: Sequence[Group], below: Path) -> Table:
    """The most important columns of the summary, as text."""
    rows = summary(runs, groups, below)
    names = [name for name in (*SCORES[:5], *COSTS) if name in rows and rows[name].notna().any()]
    cells = [
        [str(row["folder"]), str(row["status"]), *(shown_value(measured(run, name), name) for name in names)]
        for run, (_, row) in zip(runs, rows.iterrows(), strict=True)
    ]
    return Table(["folder", "status", *map(with_unit, names)], cells, num_names=2)
