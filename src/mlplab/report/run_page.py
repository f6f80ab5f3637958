"""The page of a single run: result, curves, figures, data, config, command, versions; what it says is a template."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlplab.errors import ConfigError
from mlplab.figures.curves import best_epoch, learning_curves
from mlplab.figures.style import as_svg
from mlplab.report.frames import read_text
from mlplab.report.numbers import in_words, mean_interval, shown, shown_value, with_interval
from mlplab.report.page import html, image, made_with
from mlplab.report.plots import CLOCKS
from mlplab.runs.record import CONFIG

AT_A_GLANCE = ("updates", "epochs", "fit_seconds", "parameters")
TOLD_ELSEWHERE = ("status", "metrics", "overrides", "command", "versions", "hardware", "git_commit", "error")


def run_page(run: pd.Series, metrics: dict[str, float], history: pd.DataFrame, warnings: list[str]) -> str:
    """Everything that a run folder says of its run; `run` is a row of the frame of runs, of the columns "about"."""
    folder, status, result, config = (run[name] for name in ("folder", "status", "result", "config"))
    names = [name for name in metrics if name not in result and "." not in name and np.isfinite(metrics[name])]
    known = {name: with_interval(mean_interval([metrics[name]]), name) for name in names}
    scores = [f"{in_words(name)} {known[name]}" for name in ("test/acc", "val/acc", "train/acc") if name in known]
    reason, error = result.get("stop_reason"), str(result.get("error") or "").strip()
    ended = f"The run is {status}{f' ({reason})' if reason else ''}"
    curves, pngs = course(history, config), sorted((folder / "figures").glob("*.png"))
    figures = {path.stem: image(path, path.stem) for path in pngs if not (curves and path.stem == "learning_curves")}
    figures["film"] = image(folder / "figures" / "decision_boundary.webp", "the decision boundary over training")
    facts = {key: value for key, value in result.items() if key not in TOLD_ELSEWHERE and value is not None}
    return html(
        "run.html.j2",
        kind="one run",
        title=folder.resolve().name,
        answer=[f"{ended}: {', '.join(scores)}." if scores else f"{ended}; it has no scores."],
        numbers={in_words(key): shown_value(metrics[key], key) for key in AT_A_GLANCE if key in result},
        warnings=[*([f"{status}: {error}"] if error else []), *warnings],
        made_by="python scripts/report.py",
        metrics={in_words(name): text for name, text in known.items()},
        curves=curves,
        ends=[f"{shown_value(history[name].iloc[-1], name)} {in_words(name)}" for name in CLOCKS if name in history],
        figures={name: markup for name, markup in figures.items() if markup},
        facts={key.replace("_", " "): fact(key, value) for key, value in facts.items()},
        data={key: shown(value) for key, value in config.items() if key.startswith("data.")},
        command=f"python {result.get('command', 'train.py')}",
        versions=made_with([result]),
        files={"Resolved config": end_of(folder / CONFIG, 10**6), "Log (its end)": end_of(folder / "train.log", 200)},
    )


def fact(key: str, value: Any) -> str:
    """A value of result.json for a reader; a seed is for typing, not for reading."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {fact(str(name), one)}" for name, one in value.items())
    if isinstance(value, float):
        return shown_value(value, key)
    return f"{value:,}" if type(value) is int and key != "seed" else shown(value)


def course(history: pd.DataFrame, config: dict[str, Any]) -> str:
    """Its curves over the epochs as SVG; nothing without a history."""
    names = ["train/acc", "val/acc", "train/loss", "val/loss"]
    table = history.reindex(columns=list(dict.fromkeys([*history, "epoch", *names])))
    if table["epoch"].isna().any() or table[names].isna().all(axis=None):
        return ""
    rows: Any = table.to_dict("records")
    best = best_epoch(rows, monitor=config.get("monitor"), mode=str(config.get("monitor_mode")))
    return as_svg(learning_curves)(rows, best_epoch=best, alt="Accuracy and loss of training and validation by epoch")


def end_of(path: Path, most: int) -> str:
    """At most so many lines at the end of a text file; nothing where it cannot be read."""
    try:
        return "\n".join(read_text(path).rstrip().splitlines()[-most:])
    except ConfigError:
        return ""
