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
from mlplab.report.comparison import comparison
from mlplab.report.frames import Group, common_overrides, differing, find, grouped, read, read_sweep, typed_keys
from mlplab.report.numbers import is_share, shown_interval
from mlplab.report.run_page import run_page
from mlplab.report.study import score_of, study_of
from mlplab.report.tables import measured, summary
from mlplab.runs.record import RESULT

IN_TERMINAL = ("train/acc", "val/acc", "test/acc", "gap/acc", "updates", "seconds")


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
        page = run_page(runs["about"].iloc[0], dict(runs["metrics"].iloc[0]), history, skipped)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "report.html", page)
        show(written := Report(target / "report.html", runs, grouped(runs, history), skipped))
        return written
    show(written := write_report(paths, target))
    if not written.runs["about"]["finished"].any():
        raise RunFailed(f"none of the runs finished; {written.page} names them")
    return written


def write_report(folders: Sequence[Path], output: Path) -> Report:
    """Write `report.html` and `summary.csv` of all runs at or below `folders` into the folder `output`.

    A `sweep.json` in `output`, or in the only folder given, tells of the study and of jobs that have not started.
    Runs that did not finish are named and take no part in any mean. Raises ConfigError where no run can be read.
    """
    runs, history, skipped = read(folders)
    sweep = read_sweep(output) or (read_sweep(folders[0]) if len(folders) == 1 else {})
    studies = list(runs["about"]["study"])
    study = study_of(sweep.get("study") or (studies[0] if all(each == studies[0] for each in studies) else {}))
    groups = grouped(runs, history, first=[key for key in (study.x, study.group) if key])
    missing = len(sweep.get("jobs", [])) - len(find(folders)[0])
    warnings = [*warnings_of(runs, groups, missing), *(f"left out: {line}" for line in skipped)]
    commands = [f"python {result['command']}" for result in runs["about"]["result"] if result.get("command")]
    commands = [str(sweep["command"])] if sweep.get("command") else commands
    again, title = shlex.join(["python", "scripts/report.py", *map(str, folders)]), output.resolve().name
    page = comparison(title, study, runs, groups, score_of(study, groups), warnings, [*commands, again])
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "summary.csv", summary(runs, groups, output).to_csv(index=False))
    write_atomically(output / "report.html", page)
    return Report(output / "report.html", runs, groups, warnings)


def warnings_of(runs: pd.DataFrame, groups: Sequence[Group], missing: int) -> list[str]:
    """What a reader must know before believing the numbers: runs that failed or did not start, mixed-up settings."""
    lines = []
    for run in runs["about"][~runs["about"]["finished"]].itertuples():
        error = first_line(str(run.result.get("error") or "no reason known")).removeprefix(f"{run.status}: ")
        lines.append(f"{run.status}: {run.folder}: {error:.200}")
    if missing > 0:
        lines.append(f"Jobs of the sweep that have not started: {missing}.")
    differ = differing(runs)
    for key in [key for key in typed_keys(runs) if key in differ and key not in groups[0].settings]:
        lines.append(f"{key} differs too, along with the settings compared: what made the difference cannot be told.")
    return lines


def show(written: Report) -> None:
    """Print a row for each group, what did not finish, and where the report is."""
    console = Console(width=max(Console().width, 120))  # a narrow table would break its numbers
    settings, names = list(written.groups[0].settings), measured(written.groups, IN_TERMINAL)
    table = Table(escape(", ".join(settings)) or "setting", show_edge=False, pad_edge=False)
    for heading in ("n", *(f"{name}, %" if is_share(name) else name for name in names)):
        table.add_column(escape(heading), justify="right")
    for group in written.groups:
        cells = [shown_interval(group.interval(name), name) for name in names]
        table.add_row(escape(group.label), str(len(group.runs)), *cells)
    if len(written.runs) > 1 and (common := common_overrides(written.runs, settings)):
        print("all with", *common)
    console.print(table)
    print("\nn: finished runs; ±: half of the 95 % interval of their mean (wide for few runs)")
    for line in (*written.warnings, f"report  {written.page}"):
        print(line)
