"""Many run folders as one answer: summary.csv, a self-contained report.html, and a table in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlplab.errors import ConfigError, RunFailed
from mlplab.files import write_atomically
from mlplab.report.comparison import comparison, confounded, unfinished_line
from mlplab.report.groups import Group, common_overrides, grouped
from mlplab.report.run_page import run_page
from mlplab.report.runs import Run, find, read, read_sweep
from mlplab.report.study import score_of, study_of
from mlplab.report.tables import summary
from mlplab.report.words import count, is_share, shown_interval
from mlplab.runs.record import RESULT

PAGE, SUMMARY = "report.html", "summary.csv"
IN_TERMINAL = ("train/acc", "val/acc", "test/acc", "gap/acc", "updates", "seconds")


class Report(NamedTuple):
    """What was written, and what it is about."""

    page: Path
    runs: list[Run]
    groups: list[Group]
    skipped: list[str]  # one line for each folder or file that could not be used


def report(folders: Sequence[str], output: str | None = None) -> Report:
    """Write and print the report of run folders, or of folders that hold some; of one run folder, its own page.

    `output` is the folder to write into: by default the one folder given, else `outputs/reports/<name of the first>`.
    Raises ConfigError where there is no run at all, RunFailed where none finished.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) == 1 and (paths[0] / RESULT).is_file():
        return report_run(paths[0], Path(output) if output else paths[0])
    target = Path(output) if output else paths[0] if len(paths) == 1 else Path("outputs", "reports", paths[0].name)
    written = write_report(paths, target)
    show(written)
    if not any(run.finished for run in written.runs):
        raise RunFailed(f"none of {count(len(written.runs), 'run')} finished; {written.page} names them")
    return written


def report_run(folder: Path, output: Path) -> Report:
    """Write the page of one run. Raises ConfigError when the run cannot be read."""
    runs, skipped = read([folder])
    if not runs:
        raise ConfigError(*skipped)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / PAGE, run_page(runs[0], skipped).html())
    written = Report(output / PAGE, runs, grouped(runs), skipped)
    show(written)
    return written


def write_report(folders: Sequence[Path], output: Path) -> Report:
    """Write `report.html` and `summary.csv` of all runs at or below `folders` into the folder `output`.

    A `sweep.json` in `output`, or in the only folder given, tells of the study and of jobs that have not started.
    Runs that did not finish are named and take no part in any mean. Raises ConfigError where no run can be read.
    """
    found, skipped = find(folders)
    runs, unusable = read(found)
    skipped += unusable
    if not runs:
        raise ConfigError(*(skipped or ["folders: none given; name run folders, or folders that hold some"]))
    sweep = read_sweep(output) or (read_sweep(folders[0]) if len(folders) == 1 else {})
    jobs = sweep.get("jobs")
    if isinstance(jobs, list):  # the order of the sweep is the same however often it was interrupted
        place = {str(name): index for index, name in enumerate(jobs)}
        runs.sort(key=lambda run: place.get(run.folder.name, len(place)))
    study = study_of(sweep, runs)
    groups = grouped(runs, first=[key for key in (study.x, study.group) if key])
    page = comparison(
        title=output.resolve().name, study=study, runs=runs, groups=groups, score=score_of(study, groups),
        skipped=skipped, command=str(sweep.get("command") or ""), output=output,
        folders=folders, missing=len(jobs) - len(found) if isinstance(jobs, list | dict) else 0,
    )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / SUMMARY, summary(runs, groups, output).to_csv(index=False))
    write_atomically(output / PAGE, page.html())
    return Report(output / PAGE, runs, groups, skipped)


def show(written: Report) -> None:
    """Print a row for each group, what did not finish, and where the report is."""
    console = Console(width=max(Console().width, 120))  # a narrow table would break its numbers
    names = [name for name in IN_TERMINAL if any(group.values(name) for group in written.groups)]
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(", ".join(written.groups[0].settings) or "setting")
    for heading in ("n", *(f"{name}, %" if is_share(name) else name for name in names)):
        table.add_column(escape(heading), justify="right")
    for group in written.groups:
        cells = [shown_interval(group.interval(name), name) for name in names]
        table.add_row(escape(group.label), str(len(group.runs)), *cells)
    if len(written.runs) > 1 and (common := common_overrides(written.runs, written.groups)):
        console.print("all with", *common, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print()
    if any(len(group.runs) > 1 for group in written.groups):
        console.print("n: finished runs; ±: half of the 95 % interval of their mean (wide for few runs)")
    for line in [
        *confounded(written.runs, written.groups),
        *(unfinished_line(run) for run in written.runs if not run.finished),
        *written.skipped,
    ]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"report  {written.page}", markup=False, highlight=False, soft_wrap=True)
