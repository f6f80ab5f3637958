"""Many run folders as one answer: summary.csv, a self-contained report.html, and a table in the terminal."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlplab.errors import RunFailed
from mlplab.files import write_atomically
from mlplab.report.comparison import comparison
from mlplab.report.frames import Group, common_overrides, differing, grouped, read, read_sweep, run_folders, typed_keys
from mlplab.report.numbers import count, is_share, shown_interval
from mlplab.report.run_page import run_page
from mlplab.report.study import score_of, study_of
from mlplab.report.tables import statuses, summary
from mlplab.runs.record import RESULT

IN_TERMINAL = ("train/acc", "val/acc", "test/acc", "gap/acc", "updates", "seconds")
MOST_NAMED = 20


class Report(NamedTuple):
    """What was written, and what it is about."""

    page: Path
    runs: pd.DataFrame
    groups: list[Group]
    warnings: list[str]  # what a reader must know before believing the numbers


def report(folders: Sequence[str], output: str | None = None) -> Report:
    """Write and print the report of run folders, or of folders that hold some; of one run folder, its own page.

    `output` is the folder to write into: by default the one folder given, else `outputs/reports/<name of the first>`.
    Raises ConfigError where there is no run at all, RunFailed where none finished.
    """
    paths = [Path(folder) for folder in folders]
    target = Path(output) if output else paths[0] if len(paths) == 1 else Path("outputs", "reports", paths[0].name)
    if len(paths) == 1 and (paths[0] / RESULT).is_file():
        runs, history, skipped = read(paths)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "report.html", run_page(runs.iloc[0], history, skipped).html())
        written = Report(target / "report.html", runs, grouped(runs, history), skipped)
        show(written)
        return written
    written = write_report(paths, target)
    show(written)
    if not written.runs["about"]["finished"].any():
        raise RunFailed(f"none of {count(len(written.runs), 'run')} finished; {written.page} names them")
    return written


def write_report(folders: Sequence[Path], output: Path) -> Report:
    """Write `report.html` and `summary.csv` of all runs at or below `folders` into the folder `output`.

    A `sweep.json` in `output`, or in the only folder given, tells of the study and of jobs that have not started.
    Runs that did not finish are named and take no part in any mean. Raises ConfigError where no run can be read.
    """
    runs, history, skipped = read(folders)
    sweep = read_sweep(output) or (read_sweep(folders[0]) if len(folders) == 1 else {})
    jobs, missing = sweep.get("jobs"), 0
    if isinstance(jobs, list):  # the order of the sweep is the same however often it was interrupted
        place = {str(name): index for index, name in enumerate(jobs)}
        names = runs["about"]["folder"].map(lambda folder: place.get(folder.name, len(place)))
        runs, missing = (
            runs.loc[names.sort_values(kind="stable").index],
            len(jobs) - sum(1 for folder in folders for _ in run_folders(folder)),
        )
    studies = list(runs["about"]["study"])
    study = study_of(sweep.get("study") or (studies[0] if all(each == studies[0] for each in studies) else {}))
    groups = grouped(runs, history, first=[key for key in (study.x, study.group) if key])
    warnings = warnings_of(runs, groups, missing) + [f"left out: {line}" for line in skipped]
    commands = [f"python {result['command']}" for result in runs["about"]["result"] if result.get("command")]
    commands = [str(sweep["command"])] if sweep.get("command") else commands
    page = comparison(
        output.resolve().name, study, runs, groups, score_of(study, groups), warnings=warnings, output=output,
        commands=[*commands, shlex.join(["python", "scripts/report.py", *map(str, folders)])],
    )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "summary.csv", summary(runs, groups, output).to_csv(index=False))
    write_atomically(output / "report.html", page.html())
    return Report(output / "report.html", runs, groups, warnings)


def warnings_of(runs: pd.DataFrame, groups: Sequence[Group], missing: int) -> list[str]:
    """What a reader must know before believing the numbers: runs that failed or did not start, mixed-up settings."""
    unfinished = runs[~runs["about"]["finished"]]
    lines = ["No run finished."] if len(unfinished) == len(runs) else []
    for folder, status, result in list(
        zip(*(unfinished["about"][name] for name in ("folder", "status", "result")), strict=True)
    )[:MOST_NAMED]:
        error = str(result.get("error") or "").strip().removeprefix(f"{status}: ")
        lines.append(f"{status}: {folder}" + (f": {error.splitlines()[0][:200]}" if error else ""))
    if len(unfinished) > MOST_NAMED:
        more = count(len(unfinished) - MOST_NAMED, "run")
        lines.append(f"… and {more} more, see summary.csv: {statuses(unfinished)}")
    if missing > 0:
        lines.append(f"{count(missing, 'job')} of the sweep {'has' if missing == 1 else 'have'} not started.")
    differ = differing(runs)
    keys = [key for key in typed_keys(runs) if key in differ and key not in groups[0].settings]
    if keys:
        lines.append(
            f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''} too, always together with the settings "
            "compared: what made the difference cannot be told."
        )
    return lines


def show(written: Report) -> None:
    """Print a row for each group, what did not finish, and where the report is."""
    console = Console(width=max(Console().width, 120))  # a narrow table would break its numbers
    groups = written.groups
    names = [name for name in IN_TERMINAL if any(group.values(name) for group in groups)]
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(", ".join(groups[0].settings) or "setting")
    for heading in ("n", *(f"{name}, %" if is_share(name) else name for name in names)):
        table.add_column(escape(heading), justify="right")
    for group in groups:
        cells = [shown_interval(group.interval(name), name) for name in names]
        table.add_row(escape(group.label), str(len(group.runs)), *cells)
    lines = [*written.warnings, f"report  {written.page}"]
    if any(len(group.runs) > 1 for group in groups):
        lines.insert(0, "n: finished runs; ±: half of the 95 % interval of their mean (wide for few runs)")
    if len(written.runs) > 1 and (common := common_overrides(written.runs, list(groups[0].settings))):
        console.print("all with", *common, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
