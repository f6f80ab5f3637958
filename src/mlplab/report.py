"""Many run folders as one table, grouped over seeds."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlplab.checks import ConfigError
from mlplab.record import RESULT, Record

SHOWN = ("train/acc", "val/acc", "test/acc")
NOT_COMPARED = ("seed=", "hydra.", "hydra/")
"""Overrides that do not tell groups apart."""


def report(folders: Sequence[str]) -> None:
    """Print mean ± standard deviation and number of runs for each group of runs that differ in the seed only.

    `folders` are run folders or folders of run folders. Runs that did not finish are named. Raises ConfigError where
    there is no run at all.
    """
    records = [Record.read(path) for folder in folders for path in run_folders(Path(folder))]
    if not records:
        raise ConfigError(f"no run in {', '.join(folders) or 'nothing'}: a run folder holds a {RESULT}")
    finished = [record.values for record in records if record.values.get("status") == "finished"]
    console = Console(width=max(Console().width, 120))  # a narrow table would break its numbers
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("overrides")
    for heading in ("n", *(f"{name}, %" for name in SHOWN), "updates", "fit, s"):
        table.add_column(heading, justify="right")
    grouped = groups(finished)
    common = set.intersection(*(set(name.split(" ")) for name in grouped)) if len(grouped) > 1 else set()
    for name, runs in grouped.items():
        scores = [spread(run["metrics"][score] * 100 for run in runs if score in run["metrics"]) for score in SHOWN]
        updates, seconds = spread((run["updates"] for run in runs), 0), spread((run["fit_seconds"] for run in runs), 1)
        different = [override for override in name.split(" ") if override not in common]
        table.add_row(escape(" ".join(different) or name), str(len(runs)), *scores, updates, seconds)
    if common:
        console.print("all with", *sorted(common), markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    for record in records:
        if record.values.get("status") != "finished":
            console.print(f"{record.values.get('status')}: {record.folder}", highlight=False, soft_wrap=True)


def run_folders(folder: Path) -> list[Path]:
    """All run folders at or below a folder."""
    return sorted(path.parent for path in folder.rglob(RESULT))


def groups(runs: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs by their overrides, the seed left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        kept = [override for override in run.get("overrides", []) if not override.startswith(NOT_COMPARED)]
        found.setdefault(" ".join(kept) or "(defaults)", []).append(run)
    return found


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean ± standard deviation; the value alone where all are equal, or there is one."""
    numbers = list(values)
    if not numbers:
        return ""
    mean = f"{statistics.mean(numbers):,.{digits}f}"
    return mean if len(set(numbers)) == 1 else f"{mean} ± {statistics.stdev(numbers):,.{digits}f}"
