"""What the benchmark measured, as Markdown tables and as a plot."""

import statistics
from typing import Any

from matplotlib.figure import Figure

LOOP_LOADER, LOOP_TENSORS, PLAIN = "loop, DataLoader (1)", "loop, tensors (2)", "plain Lightning (3)"
MLPLAB, COMPILED = "mlplab (4)", "mlplab compiled (5)"
CONTENDERS = (LOOP_LOADER, LOOP_TENSORS, PLAIN, MLPLAB, COMPILED)
COLOURS = ("#999999", "#56B4E9", "#E69F00", "#0072B2", "#009E73")  # Okabe & Ito


def spread(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def ratio(slow: list[float], fast: list[float], digits: int = 2) -> str:
    """How many times as long `slow` took, repetition by repetition: median and range."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)], digits)


def markdown(report: dict[str, Any]) -> str:
    """All figures as tables."""
    lines = [f"{report['hardware']}, torch {report['torch']}, {report['when'][:10]}. Median (least–greatest)."]
    lines += speed(report["updates"]) if report["updates"] else []
    if "figures" in report:
        lines += ["", "CPU seconds of runs with default figures and without:", "", *figure_cost(report["figures"])]
    if "evaluation" in report:
        times = report["evaluation"]
        lines += ["", "Evaluating 10,000 images after training at batch 1: "
                  f"mlplab {spread(times['mlplab'], 2)} s, plain Lightning {spread(times['plain Lightning'], 2)} s, "
                  f"ratio {ratio(times['plain Lightning'], times['mlplab'], 0)}."]  # fmt: skip
        scaling = [f"{int(samples):,} samples {spread(times, 2)} s" for samples, times in report["scaling"].items()]
        lines += ["", f"One epoch of passing at batch 32: {'; '.join(scaling)}."]
        process = [
            f"{name} {spread(figures['seconds'], 1)} s and {spread(figures['megabytes'])} MB"
            for name, figures in report["process"].items()
        ]
        lines += ["", f"A whole process with one update: {'; '.join(process)}."]
    return "\n".join(lines) + "\n"


def speed(rows: list[dict[str, Any]]) -> list[str]:
    """Microseconds per update of every contender, and how they compare."""
    lines = [
        "",
        "Microseconds per update, validation once an epoch included:", "",
        f"| workload | {' | '.join(CONTENDERS)} | compiling: first, again, s |", "|---" * (len(CONTENDERS) + 2) + "|",
    ]  # fmt: skip
    for row in rows:
        cells = [spread(row["us_per_update"][name]) for name in CONTENDERS]
        first, *again = row["compile_seconds"] + row["compile_seconds"][:1]
        lines.append(
            f"| {row['case'].rstrip(',')} | {' | '.join(cells)} | {first:.1f}, {statistics.median(again):.1f} |"
        )
    lines += ["", "How many times as fast mlplab is (ratio of the same repetition):", ""]
    lines += [
        "| workload | (4) to (1) | (4) to (2) | (4) to (3) | (5) to (2) | (5) to (3) |",
        "|---|---|---|---|---|---|",
    ]
    pairs = (
        (LOOP_LOADER, MLPLAB),
        (LOOP_TENSORS, MLPLAB),
        (PLAIN, MLPLAB),
        (LOOP_TENSORS, COMPILED),
        (PLAIN, COMPILED),
    )
    for row in rows:
        cells = [ratio(row["us_per_update"][slow], row["us_per_update"][fast]) for slow, fast in pairs]
        lines.append(f"| {row['case'].rstrip(',')} | {' | '.join(cells)} |")
    return lines


def figure_cost(costs: dict[str, dict[str, Any]]) -> list[str]:
    """What figures cost each job while it trains, and after it."""
    lines = [
        "| job | training without | with | ratio | in their hooks, % | afterwards without | with |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        off, on = cost["without"], cost["with"]
        hooks = spread([100 * share for share in on["in_hooks"]], 1)
        cells = [spread(off["training"], 2), spread(on["training"], 2), ratio(on["training"], off["training"]), hooks]
        lines.append(f"| {name} | {' | '.join([*cells, spread(off['afterwards'], 2), spread(on['afterwards'], 2)])} |")
    return lines


def plot(report: dict[str, Any]) -> Figure:
    """Updates per second of every contender, a group of bars for each workload, with the spread."""
    rows = report["updates"]
    figure = Figure(figsize=(max(6.0, 1.6 * len(rows)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(CONTENDERS)
    for index, (name, colour) in enumerate(zip(CONTENDERS, COLOURS, strict=True)):
        rates = [[1e6 / value for value in row["us_per_update"][name]] for row in rows]
        middle = [statistics.median(values) for values in rates]
        below = [m - min(values) for m, values in zip(middle, rates, strict=True)]
        above = [max(values) - m for m, values in zip(middle, rates, strict=True)]
        places = [place + (index - (len(CONTENDERS) - 1) / 2) * width for place in range(len(rows))]
        axes.bar(places, middle, width, yerr=[below, above], color=colour, label=name, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(rows)), [row["case"].rstrip(",").replace(", ", ",\n") for row in rows], fontsize=8)
    axes.set(yscale="log", ylabel="updates per second", title=f"Training speed ({report['hardware']})")
    axes.legend(frameon=False, fontsize=8, ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
