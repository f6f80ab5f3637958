"""Where the numbers of a report come from: the commands, versions, hardware and code of its runs."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mlplab.report.page import Section
from mlplab.report.runs import Run

MOST_COMMANDS = 12


def repeat(command: str, runs: Sequence[Run], folders: Sequence[Path]) -> Section:
    """What to type for the same runs and the same report."""
    commands = (
        [command] if command else [f"python {run.result['command']}" for run in runs if run.result.get("command")]
    )
    notes = []
    if len(commands) > MOST_COMMANDS:
        notes = [f"These are {MOST_COMMANDS} of {len(commands)} commands; all are in summary.csv."]
    report = shlex.join(["python", "scripts/report.py", *map(str, folders)])
    return Section("Do it again", code=["\n".join([*commands[:MOST_COMMANDS], report])], notes=notes)


def made_with(runs: Sequence[Run]) -> Section:
    """Versions, hardware and code of the runs; several where they differ."""
    facts: dict[str, dict[str, None]] = {}
    for run in runs:
        versions = run.result.get("versions")
        for name, value in (versions if isinstance(versions, dict) else {}).items():
            facts.setdefault(str(name), {})[str(value)] = None
        for name, key in (("hardware", "hardware"), ("code", "git_commit")):
            if value := run.result.get(key):
                facts.setdefault(name, {})[str(value)] = None
    return Section("Versions and hardware", facts={name: "; ".join(values) for name, values in facts.items()})
