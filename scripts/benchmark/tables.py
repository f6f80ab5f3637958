"""What the benchmark measured, as Markdown: medians, and the least and greatest values in brackets."""

import statistics
from collections.abc import Sequence
from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """All that was measured."""
    measured = dict(report["measured"])
    jobs = measured.pop("busy", {})
    busy = {job: {key: spread([run[key] for run in runs], 2) for key in runs[0]} for job, runs in jobs.items()}
    times, ratios = {}, {}
    for name, row in measured.items():
        us = {who: [1e6 * epoch / row["updates"] for _, epoch in runs] for who, runs in row["seconds"].items()}
        times[name] = {who: spread(values) for who, values in us.items()}
        ratios[name] = compared(us)
    return "\n".join([
        f"{report['hardware']}, torch {report['torch']}, {report['when'][:10]}. Median (least–greatest).\n",
        *table("Microseconds per update, validation once an epoch included", times),
        *table("How many times as fast mlplab is (ratio of the same repetition)", ratios),
        *table("Beside two other processes", busy),
    ])  # fmt: skip


def table(title: str, rows: dict[str, dict[str, str]]) -> list[str]:
    """Name of a row → name of a column → text; nothing where there is no row."""
    if not rows:
        return []
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(row.get(column, "–") for column in columns)] for name, row in rows.items()]
    return [f"{title}:", "", *(f"| {' | '.join(cells)} |" for cells in lines), ""]


def compared(times: dict[str, list[float]]) -> dict[str, str]:
    """How many times as long every other contender took as each of mlplab, repetition by repetition."""
    ours, others = ([who for who in times if who.startswith("mlplab") == is_ours] for is_ours in (True, False))
    return {
        f"{we} : {other}": spread([a / b for a, b in zip(times[other], times[we], strict=True)], 2)
        for we in ours
        for other in others
    }


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
