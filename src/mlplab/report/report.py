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
from mlplab.report.page import Section
from mlplab.report.run_page import run_page
from mlplab.report.study import score_of, study_of
from mlplab.report.tables import summary
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
    alone = len(paths) == 1 and (paths[0] / RESULT).is_file()
    written = (write_run_page if alone else write_report)(paths, target)
    show(written)
    if not alone and not written.runs["about"]["finished"].any():
        raise RunFailed(f"none of {count(len(written.runs), 'run')} finished; {written.page} names them")
    return written


def write_run_page(folders: Sequence[Path], output: Path) -> Report:
    """Write `report.html` of the only run into the folder `output`. Raises ConfigError where it cannot be read."""
    runs, history, skipped = read(folders)
    page = run_page(runs["about"].iloc[0], runs["metrics"].iloc[0].to_dict(), history, skipped)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "report.html", page.html())
    return Report(output / "report.html", runs, grouped(runs, history), skipped)


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
    warnings = [*unfinished_lines(runs), *(f"left out: {line}" for line in skipped), *confounded(runs, groups)]
    if (missing := len(sweep.get("jobs") or ()) - sum(len(list(run_folders(folder))) for folder in folders)) > 0:
        warnings.insert(0, f"{count(missing, 'job')} of the sweep {'has' if missing == 1 else 'have'} not started.")
    commands = [f"python {result['command']}" for result in runs["about"]["result"] if result.get("command")]
    commands = [str(sweep["command"])] if sweep.get("command") else commands
    code = "\n".join([*commands[:MOST_NAMED], shlex.join(["python", "scripts/report.py", *map(str, folders)])])
    more = len(commands) - MOST_NAMED
    again = Section(
        "Do it again", code=[code], text=[f"{count(more, 'more command')} in summary.csv"] if more > 0 else []
    )
    rows, score, title = summary(runs, groups, output), score_of(study, groups), output.resolve().name
    page = comparison(title, study, runs, groups, score, warnings=warnings, again=again, rows=rows)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "summary.csv", rows.to_csv(index=False))
    write_atomically(output / "report.html", page.html())
    return Report(output / "report.html", runs, groups, warnings)


def unfinished_lines(runs: pd.DataFrame) -> list[str]:
    """ "diverged: <folder>: the loss of update 12 …", for each run that did not finish."""
    unfinished = runs["about"][~runs["about"]["finished"]]
    lines = ["No run finished."] if len(unfinished) == len(runs) else []
    for run in unfinished.head(MOST_NAMED).itertuples():
        error = str(run.result.get("error") or "").strip().removeprefix(f"{run.status}: ").partition("\n")[0][:200]
        lines.append(f"{run.status}: {run.folder}" + (f": {error}" if error else ""))
    more = len(unfinished) - MOST_NAMED
    return lines + ([f"… and {count(more, 'run')} more, see summary.csv"] if more > 0 else [])


def confounded(runs: pd.DataFrame, groups: Sequence[Group]) -> list[str]:
    """A line on settings that were typed and differ always together with those compared, where there are any."""
    differ = differing(runs)
    keys = [key for key in typed_keys(runs) if key in differ and key not in groups[0].settings]
    told = "too, always together with the settings compared: what made the difference cannot be told."
    return [f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''} {told}"] if keys else []


def show(written: Report) -> None:
    """Print a row for each group, what did not finish, and where the report is."""
    console = Console(width=max(Console().width, 120))  # a narrow table would break its numbers
    groups, table = written.groups, Table(show_edge=False, pad_edge=False)
    names = [name for name in IN_TERMINAL if any(group.values(name) for group in groups)]
    table.add_column(", ".join(groups[0].settings) or "setting")
    for heading in ("n", *(f"{name}, %" if is_share(name) else name for name in names)):
        table.add_column(escape(heading), justify="right")
    for group in groups:
        cells = [shown_interval(group.interval(name), name) for name in names]
        table.add_row(escape(group.label), str(len(group.runs)), *cells)
    about_n = "n: finished runs; ±: half of the 95 % interval of their mean (wide for few runs)"
    common = common_overrides(written.runs, list(groups[0].settings)) if len(written.runs) > 1 else []
    if common:
        console.print("all with", *common, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print()
    for line in [
        *([about_n] if any(len(group.runs) > 1 for group in groups) else []),
        *written.warnings,
        f"report  {written.page}",
    ]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
