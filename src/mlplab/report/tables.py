"""The numbers of many runs as tables: a row per group, a row per run, equal budgets, chosen epochs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mlplab.report.frames import Group, differing, is_repeated
from mlplab.report.numbers import in_words, mean_interval, shown_interval, shown_value, smaller_is_better, with_unit
from mlplab.report.page import Table
from mlplab.report.plots import CLOCKS
from mlplab.report.study import swept

SCORES = ("train/acc", "val/acc", "best/val/acc", "test/acc", "gap/acc", "val/loss")
COSTS = ("updates", "seconds", "fit_seconds")
FACTS = ("batch_size", "updates_per_epoch", "parameters", "updates", "epochs", "samples_seen", "fit_seconds")
ABOUT = (
    "stop_reason", "error", "started", "finished", "git_commit", "hardware", "weights_digest", "config_digest",
    "command",
)  # fmt: skip
CHOSEN = (
    ("epochs trained", "end", "epoch"), ("epoch chosen by validation", "chosen", "epoch"),
    ("epoch best for the test set", "best", "epoch"), ("test accuracy there, %: chosen", "chosen", "test/acc"),
    ("best", "best", "test/acc"), ("at the end", "end", "test/acc"), ("test loss: chosen", "chosen", "test/loss"),
    ("best", "best", "test/loss"), ("at the end", "end", "test/loss"),
)  # fmt: skip
"""Heading, row of a run's history, and what stands there."""
SIMILAR = 1.05
"""Budgets that differ by less than this factor need no table of their own."""


def measured(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that any group has, each once."""
    return [name for name in dict.fromkeys(metrics) if any(group.values(name) for group in groups)]


def group_table(groups: Sequence[Group], metrics: Sequence[str], score: str) -> Table:
    """A row per group: settings, number of runs, means with intervals; the group with the best score is marked."""
    names = measured(groups, [*metrics, *SCORES, *COSTS])
    if "seconds" in names:  # of training alone, which says more than the time of the fit with figures and checkpoints
        names = [name for name in names if name != "fit_seconds"]
    rows = []
    for group in groups:
        row = dict(group.settings) or {"": group.label}
        ends = group.unfinished["about"]["status"].value_counts(sort=False)
        row |= {"n": str(len(group.runs)), "not finished": ", ".join(f"{n} {status}" for status, n in ends.items())}
        rows.append(row | {with_unit(name): shown_interval(group.interval(name), name) for name in names})
    table = pd.DataFrame(rows).drop(columns=[] if any(row["not finished"] for row in rows) else "not finished")
    known = pd.Series([group.interval(score).mean for group in groups]).dropna()
    marked = (known.idxmin() if smaller_is_better(score) else known.idxmax()) if len(known) > 1 else None
    num_names = len(groups[0].settings) or 1
    return Table(list(table), table.to_numpy().tolist(), num_names=num_names, marked=marked)


def budget_table(groups: Sequence[Group], metric: str = "val/acc") -> Table | None:
    """The metric of each group at the same number of updates, of samples seen, and of seconds.

    The budget is what the run that ended first had spent; a run counts with its last validation by then. None where
    all groups have spent the same, or have no history.
    """
    columns = {"": [group.label for group in groups]}
    for clock in CLOCKS:
        lines = [group.lines(clock, metric) for group in groups]
        ends = [x[-1] for line in lines for x, _ in line]
        if len(groups) > 1 and ends and max(ends) > SIMILAR * min(ends):
            heading = f"{with_unit(metric)} at {shown_value(min(ends), clock)} {in_words(clock)}"
            values = [[y[x <= min(ends)][-1] for x, y in line if x[0] <= min(ends)] for line in lines]
            columns[heading] = [shown_interval(mean_interval(found), metric) or "–" for found in values]
    return Table(list(columns), list(zip(*columns.values(), strict=True))) if len(columns) > 1 else None


def chosen_epochs(groups: Sequence[Group]) -> Table | None:
    """The epoch that validation chose, beside the one that the test set would have chosen, of runs with a test curve.

    The test set chooses by the same measure, the loss or the accuracy; of equal epochs the first is chosen, as
    checkpoints are. A row for each group; None where no run has such a curve.
    """
    rows = []
    for group in groups:
        monitor = str(group.runs["config"].get("monitor", pd.Series("val/acc")).iloc[0])
        oracle = monitor.replace("val/", "test/")
        columns = dict.fromkeys(["run", "epoch", monitor, oracle, "test/acc", "test/loss"])
        known = group.history.reindex(columns=list(columns)).dropna()
        if oracle != monitor and len(known):
            runs, first = known.groupby("run"), "idxmin" if smaller_is_better(monitor) else "idxmax"
            places = {"chosen": runs[monitor].agg(first), "best": runs[oracle].agg(first), "end": runs.tail(1).index}
            cells = [(known.loc[places[when], what], what.replace("epoch", "epochs")) for _, when, what in CHOSEN]
            rows.append([group.label, *(shown_interval(mean_interval(values), what) for values, what in cells)])
    return Table(["", *(heading for heading, _, _ in CHOSEN)], rows) if rows else None


def heat_map(groups: Sequence[Group], metric: str, x: str, y: str) -> Table:
    """The mean of a metric for every pair of two settings, with half its 95 % interval; – for a pair without runs."""
    found = {(group.settings[y], group.settings[x]): group.interval(metric) for group in groups}
    columns, rows = swept(groups, x), swept(groups, y)
    cells = [[found.get((row, column), mean_interval([])) for column in columns] for row in rows]
    means = np.array([[cell.mean for cell in line] for line in cells])
    shades = np.nan_to_num((means - np.nanmin(means)) / (np.nanmax(means) - np.nanmin(means) or 1)).tolist()
    texts = [[shown_interval(cell, metric) or "–" for cell in line] for line in cells]
    headings = [f"{with_unit(metric)}: {y} ↓ {x} →", *columns]
    return Table(headings, [[row, *line] for row, line in zip(rows, texts, strict=True)], shades=shades)


def summary(runs: pd.DataFrame, groups: Sequence[Group], below: Path) -> pd.DataFrame:
    """A row per run: where it is, how it ended, its settings, all metrics, what it cost, and what it was made with.

    The folders are relative to `below` where they lie in it.
    """
    about, results = runs["about"], runs["about"]["result"]
    labels = {index: group.label for group in groups for index in group.members.index}
    keys = dict.fromkeys([*groups[0].settings, *differing(runs), *filter(is_repeated, runs["config"])])
    names = [name for name in sorted(runs["metrics"]) if "." not in name and not any(name in each for each in results)]
    values = [typed | config for typed, config in zip(about["typed"], about["config"], strict=True)]
    values = [{key: str(one).lower() if isinstance(one, bool) else one for key, one in each.items()} for each in values]
    columns = {
        "folder": [location(folder, below) for folder in about["folder"]],
        "status": about["status"],
        "counted": runs.index.isin([index for group in groups for index in group.runs.index]),
        "group": [labels.get(index, "") for index in runs.index],
        **{key: [each.get(key) for each in values] for key in keys},
        **{name: runs["metrics"].get(name, np.nan) for name in (*names, *FACTS)},
        **{name: [result.get(name) for result in results] for name in ABOUT},
    }
    return pd.DataFrame(columns, index=runs.index).convert_dtypes()


def location(folder: Path, below: Path) -> str:
    """The folder relative to another that holds it, else as it was given."""
    inner, outer = folder.absolute(), below.absolute()
    return str(inner.relative_to(outer)) if inner.is_relative_to(outer) else str(folder)


def run_table(rows: pd.DataFrame) -> Table:
    """The most important columns of the summary, as text."""
    names = [name for name in (*SCORES[:5], *COSTS) if name in rows and rows[name].notna().any()]
    texts = {name: [shown_value(value, name) for value in rows[name].astype(float)] for name in names}
    cells = rows[["folder", "status"]].assign(**texts).to_numpy().tolist()
    return Table(["folder", "status", *map(with_unit, names)], cells, num_names=2)
