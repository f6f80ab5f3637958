"""Many run folders as one answer: summary.csv, a self-contained report.html, and a table in the terminal."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlplab.errors import RunFailed, first_line
from mlplab.files import write_atomically
from mlplab.report import frames
from mlplab.report.frames import Group
from mlplab.report.numbers import is_share, shown_value
from mlplab.report.pages import comparison, run_page
from mlplab.report.study import score_of, study_of
from mlplab.report.tables import group_table, measured, summary
from mlplab.runs.folders import find_run
from mlplab.runs.record import RESULT

IN_TERMINAL = ("test/acc", "val/acc", "train/acc", "gap/acc", "updates", "seconds")
"""The more important first: a narrow terminal has no room for the last."""
WIDEST_SETTING = 24
LONGEST_NAME = 120
"""Of a folder that is called by all the runs compared in it, in characters."""


class Report(NamedTuple):
    """What was written, and what it is about."""

    page: Path
    runs: pd.DataFrame
    groups: list[Group]
    warnings: list[str]  # what a reader must know before believing the numbers
    metrics: Sequence[str] = ()  # that a study asks for


def report(runs: Sequence[str], output: str | None = None) -> Report:
    """Write and print the report of runs, or of folders that hold some; of a single run, its own page.

    A run is its name, its folder, or "last". `output` is the folder to write into: by default the one folder given,
    else `outputs/reports/<their names>`. Raises ConfigError where there is no run at all, RunFailed where none
    finished.
    """
    paths = [find_run(run) for run in runs]
    names = "_".join(dict.fromkeys(path.name for path in paths))[:LONGEST_NAME]
    target = Path(output) if output else paths[0] if len(paths) == 1 else Path("outputs", "reports", names)
    if len(paths) == 1 and (paths[0] / RESULT).is_file():
        show(written := write_run_page(paths[0], target))
        return written
    show(written := write_report(paths, target))
    if not written.runs["about"]["finished"].any():
        raise RunFailed(f"none of the runs finished; {written.page} names them")
    return written


def write_run_page(folder: Path, output: Path) -> Report:
    """Write `report.html` of one run into the folder `output`. Raises ConfigError where the run cannot be read."""
    runs, history, skipped = frames.read([folder])
    warnings = [*collapses(runs), *skipped]
    page = run_page(runs["about"].iloc[0], dict(runs["metrics"].iloc[0]), history, warnings)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "report.html", page)
    return Report(output / "report.html", runs, frames.grouped(runs, history), warnings)


def write_report(folders: Sequence[Path], output: Path) -> Report:
    """Write `report.html` and `summary.csv` of all runs at or below `folders` into the folder `output`.

    A `sweep.json` in `output`, or in the only folder given, tells of the study and of jobs that have not started.
    Runs that did not finish are named and take no part in any mean. Raises ConfigError where no run can be read.
    """
    runs, history, skipped = frames.read(folders)
    sweep = frames.read_sweep(output) or (frames.read_sweep(folders[0]) if len(folders) == 1 else {})
    studies = list(frames.comparable(runs)["about"]["study"])
    study = study_of(sweep.get("study") or (studies[0] if all(each == studies[0] for each in studies) else {}))
    groups = frames.grouped(runs, history, first=[key for key in (study.x, study.group) if key])
    missing = len(sweep.get("jobs", [])) - len(frames.find(folders)[0])
    warnings = [*warnings_of(runs, groups, missing), *(f"left out: {line}" for line in skipped)]
    commands = [f"python {result['command']}" for result in runs["about"]["result"] if result.get("command")]
    commands = [str(sweep["command"])] if sweep.get("command") else commands
    again, title = shlex.join(["python", "scripts/report.py", *map(str, folders)]), output.resolve().name
    page = comparison(title, study, runs, groups, score_of(study, groups), warnings, [*commands, again])
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "summary.csv", summary(runs, groups, output).to_csv(index=False))
    write_atomically(output / "report.html", page)
    return Report(output / "report.html", runs, groups, warnings, study.metrics)


def warnings_of(runs: pd.DataFrame, groups: Sequence[Group], missing: int) -> list[str]:
    """What to know before believing the numbers: what failed, collapsed or did not start, and mixed-up settings."""
    lines = []
    for run in runs["about"][~runs["about"]["finished"]].itertuples():
        error = first_line(str(run.result.get("error") or "no reason known")).removeprefix(f"{run.status}: ")
        lines.append(f"{run.status}: {run.folder}: {error:.200}")
    lines += collapses(runs)
    if missing > 0:
        lines.append(f"Jobs of the sweep that have not started: {missing}.")
    known = frames.comparable(runs)
    differ = frames.differing(known)
    for key in [key for key in frames.typed_keys(known) if key in differ and key not in groups[0].settings]:
        lines.append(f"{key} differs too, along with the settings compared: what made the difference cannot be told.")
    return lines


def collapses(runs: pd.DataFrame) -> list[str]:
    """A line for each run that learned nothing, or unlearned it."""
    return [
        f"collapsed: {run['about', 'folder']}: it ended no better than always naming the most frequent class "
        f"({shown_value(run['metrics', 'majority_share'], 'train/acc')} % of the training samples); "
        "try another optimizer.lr, or more epochs"
        for _, run in runs[runs["about"]["collapsed"]].iterrows()
    ]


def show(written: Report) -> None:
    """Print a row for each group, with the metrics that the terminal has room for, and what to know of them."""
    groups, console, settings = written.groups, Console(), list(written.groups[0].settings)
    if len(written.runs) > 1 and (common := frames.common_overrides(frames.comparable(written.runs), settings)):
        print("all with", *common)
    names = measured(groups, [*written.metrics, *IN_TERMINAL])
    fitting, unlimited = list(names), console.options.update_width(10_000)
    while console.measure(table := terminal_table(groups, fitting), options=unlimited).maximum > console.width:
        if len(fitting) < 2:
            break
        fitting.pop()
    console.print(table)
    print("\nn: finished runs; ±: half of the 95 % interval of their mean (wide for few runs)")
    print("[low, high]: that interval, where 0 or 100 % cut it")
    if fitting < names:
        print(f"the page has also: {', '.join(names[len(fitting) :])}")
    for line in (*written.warnings, f"report  {written.page}"):
        print(line)


def terminal_table(groups: Sequence[Group], metrics: Sequence[str]) -> Table:
    """A row for each group, whose settings are broken between lines sooner than its numbers."""
    cells = group_table(groups, metrics, heading=lambda name: f"{name}, %" if is_share(name) else name)
    table, names = Table(show_edge=False, pad_edge=False), cells.headings[: cells.num_names]
    for heading in frames.short_names(names).values():
        table.add_column(escape(heading), overflow="fold", max_width=WIDEST_SETTING)
    for heading in cells.headings[cells.num_names :]:
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for row in cells.rows:
        table.add_row(*map(escape, row))
    return table
