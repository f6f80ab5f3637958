"""The numbers of many runs as tables: a row per group, a row per run, equal budgets, chosen epochs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlplab.report.frames import Group, comparable, differing, is_repeated
from mlplab.report.numbers import in_words, mean_interval, shown_interval, shown_value, smaller_is_better, with_unit
from mlplab.report.plots import CLOCKS
from mlplab.report.study import swept, winner
from mlplab.runs.folders import short_path

SCORES = ("train/acc", "val/acc", "best/val/acc", "test/acc", "gap/acc", "val/loss")
COSTS = ("updates", "seconds")
FACTS = ("batch_size", "updates_per_epoch", "parameters", "updates", "epochs", "samples_seen", "fit_seconds")
ABOUT = (
    "stop_reason", "error", "started", "finished", "git_commit", "hardware", "weights_digest", "config_digest",
    "command",
)  # fmt: skip
SIMILAR = 1.05
"""Budgets that differ by less than this factor need no table of their own."""


@dataclass(frozen=True)
class Table:
    """Cells as text; the first `num_names` columns are names, the others numbers; `marked` is the best row's index.

    `shades` make it a heat map: a number from 0 to 1 for each cell of numbers.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1
    marked: int | None = None
    shades: Sequence[Sequence[float]] | None = None

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], **options: Any) -> "Table":
        """A table of rows with the same headings: heading → cell."""
        return cls(list(rows[0]), [list(row.values()) for row in rows], **options)


def measured(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that any group has, each once."""
    return [name for name in dict.fromkeys(metrics) if any(group.values(name) for group in groups)]


def group_table(
    groups: Sequence[Group], metrics: Sequence[str], score: str = "", *, heading: Callable[[str], str] = with_unit
) -> Table:
    """A row per group: settings, number of runs, means with intervals; a group better than every other is marked."""
    names, rows = measured(groups, metrics), []
    for group in groups:
        collapsed = int(group.runs["about"]["collapsed"].sum())
        of = "" if group.members["about"]["finished"].all() else f" of {len(group.members)}"
        n = f"{len(group.runs)}{of}{f' ({collapsed} collapsed)' if collapsed else ''}"
        means = {heading(name): with_count(group, name) for name in names}
        rows.append((group.settings or {"setting": group.label}) | {"n": n} | means)
    best = winner(groups, score)
    marked = [group.label for group in groups].index(best.label) if best else None
    return Table.of(rows, num_names=len(groups[0].settings) or 1, marked=marked)


def with_count(group: Group, metric: str) -> str:
    """A group's mean with its interval, and how many runs it is of, where it is not of all."""
    interval = group.interval(metric)
    return shown_interval(interval, metric) + (f" (n = {interval.n})" if 0 < interval.n < len(group.runs) else "")


def budget_table(groups: Sequence[Group], metric: str = "val/acc") -> Table | None:
    """The metric of each group at the same number of updates, of samples seen, and of seconds.

    The budget is what the run that ended first had spent; a run counts with its last validation by then. None where
    all groups have spent the same, or have no history.
    """
    rows = [{"": group.label} for group in groups]
    for clock in CLOCKS:
        lines = [group.lines(clock, metric) for group in groups]
        ends = [x[-1] for line in lines for x, _ in line]
        if len(groups) > 1 and ends and max(ends) > SIMILAR * min(ends):
            heading = f"{with_unit(metric)} at {shown_value(min(ends), clock)} {in_words(clock)}"
            for row, line in zip(rows, lines, strict=True):
                values = [y[x <= min(ends)][-1] for x, y in line if x[0] <= min(ends)]
                row[heading] = shown_interval(mean_interval(values, metric), metric) or "–"
    return Table.of(rows) if rows and len(rows[0]) > 1 else None


def chosen_epochs(groups: Sequence[Group]) -> Table | None:
    """The epoch that validation chose, beside the one that the test set would have chosen, of runs with a test curve.

    The test set chooses by the same measure, the loss or the accuracy. Of epochs that validation finds equally good it
    is that of the lowest loss, as for checkpoints; of others the first. A row for each group; None where no run has
    such a curve.
    """
    rows = []
    for group in groups:
        monitor = str(group.runs["about"]["config"].iloc[0].get("monitor", "val/acc"))
        oracle = monitor.replace("val/", "test/")
        columns = list({"run", "epoch", "test/acc", "test/loss", "val/loss", monitor, oracle})
        known = group.history.reindex(columns=columns).dropna()
        if oracle != monitor and len(known):
            first = "idxmin" if smaller_is_better(monitor) else "idxmax"
            runs, by_loss = (rows.groupby("run") for rows in (known, known.sort_values("val/loss", kind="stable")))
            places = {
                "chosen": by_loss[monitor].agg(first),
                "best": runs[oracle].agg(first),
                "last": runs.tail(1).index,
            }
            cells = {
                f"{with_unit(what)}: {which}": shown_interval(mean_interval(known.loc[place, what], what), what)
                for what in ("epoch", "test/acc", "test/loss")
                for which, place in places.items()
            }
            rows.append({"": group.label} | cells)
    return Table.of(rows) if rows else None


def heat_map(groups: Sequence[Group], metric: str, x: str, y: str) -> Table:
    """The mean of a metric for every pair of two settings, with half its 95 % interval; – for a pair without runs."""
    of = {(group.settings[y], group.settings[x]): group for group in groups}
    columns, rows = swept(groups, x), swept(groups, y)
    cells = [[of.get((row, column)) for column in columns] for row in rows]
    texts = [[(cell and with_count(cell, metric)) or "–" for cell in line] for line in cells]
    means = np.array([[cell.interval(metric).mean if cell else math.nan for cell in line] for line in cells])
    shades = (means - np.nanmin(means)) / (np.nanmax(means) - np.nanmin(means) or 1)
    headings = [f"{with_unit(metric)}: {y} ↓ {x} →", *columns]
    lines = [[row, *line] for row, line in zip(rows, texts, strict=True)]
    return Table(headings, lines, shades=np.nan_to_num(shades).tolist())


def summary(runs: pd.DataFrame, groups: Sequence[Group], below: Path) -> pd.DataFrame:
    """A row per run: where it is, how it ended, its settings, all metrics, what it cost, and what it was made with.

    The folders are relative to `below` where they lie in it.
    """
    about, results = runs["about"], runs["about"]["result"]
    labels = {index: group.label for group in groups for index in group.members.index}
    configured = (key for config in about["config"] for key in config)
    keys = dict.fromkeys([*groups[0].settings, *differing(comparable(runs)), *filter(is_repeated, configured)])
    names = [name for name in sorted(runs["metrics"]) if "." not in name and not any(name in each for each in results)]
    values = [typed | config for typed, config in zip(about["typed"], about["config"], strict=True)]
    values = [{key: str(one).lower() if isinstance(one, bool) else one for key, one in each.items()} for each in values]
    columns = {
        "folder": [str(short_path(folder, below)) for folder in about["folder"]],
        "status": about["status"],
        "collapsed": about["collapsed"],
        "counted": runs.index.isin([index for group in groups for index in group.runs.index]),
        "group": [labels.get(index, "") for index in runs.index],
        **{key: [each.get(key) for each in values] for key in keys},
        **{name: runs["metrics"].get(name, np.nan) for name in (*names, *FACTS)},
        **{name: [result.get(name) for result in results] for name in ABOUT},
    }
    return pd.DataFrame(columns, index=runs.index).convert_dtypes()
