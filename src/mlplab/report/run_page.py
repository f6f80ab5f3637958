"""The page of a single run: result, curves, figures, data, config, command, versions."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mlplab.errors import ConfigError
from mlplab.figures.learning import best_epoch, learning_curves
from mlplab.figures.svg import Picture, as_svg
from mlplab.files import now
from mlplab.report.frames import part, read_text
from mlplab.report.numbers import SPLITS, in_words, is_share, number, shown, shown_value
from mlplab.report.page import Page, Section, image, made_with
from mlplab.report.plots import CLOCKS
from mlplab.runs.record import CONFIG

CAPTIONS = {
    "learning_curves": "Loss and accuracy of training and validation over the epochs, and the gap between them.",
    "decision_boundary": "The predicted class over the plane of two features, with training and validation samples.",
    "confusion": "How many validation samples of each class were taken for which, and the share that was right.",
    "precision_recall": "Precision over recall, and true over false positives, on the validation samples.",
    "calibration": "How often the network is right when it is this sure, on the validation samples.",
    "extremes": "The validation samples it is most sure of and wrong, and those it is right about by a hair.",
    "training_samples": "Training samples as the network sees them.",
    "first_layer": "The weights of the first layer as images.",
    "optimization": "Learning rate, gradients and weights over the epochs.",
    "layers": "Each layer over the epochs: weights, size of the updates, units that never fire.",
    "weights": "The weights of each layer at the end.",
}
"""Figure → what it shows, in the order of the page; figures that are not named here come last, under their own name."""
AT_A_GLANCE = {"updates": "updates", "epochs": "epochs", "fit_seconds": "s of the fit", "parameters": "parameters"}
TOLD_ELSEWHERE = ("status", "metrics", "samples", "overrides", "command", "versions", "hardware", "git_commit", "error")


def run_page(run: pd.Series, metrics: dict[str, float], history: pd.DataFrame, skipped: list[str]) -> Page:
    """Everything that a run folder says of its run; `run` is a row of the frame of runs, of the columns "about"."""
    folder, result, config = run["folder"], run["result"], run["config"]
    known = {name: shown_value(value, name) + (" %" if is_share(name) else "") for name, value in metrics.items()}
    known = {name: text for name, text in known.items() if name not in result and "." not in name}
    reason, error = result.get("stop_reason"), str(result.get("error") or "").strip()
    scores = [f"{in_words(name)} {known[name]}" for name in ("test/acc", "val/acc", "train/acc") if name in known]
    ended = f"The run is {run['status']}{f' ({reason})' if reason else ''}"
    curves = course(history, config)
    facts = {key: value for key, value in result.items() if key not in TOLD_ELSEWHERE and value is not None}
    data = {f"{SPLITS.get(split, split)} samples": n for split, n in part(result, "samples").items()}
    data |= {key: value for key, value in config.items() if key.startswith("data.")}
    return Page(
        kind="one run",
        title=folder.resolve().name,
        answer=[f"{ended}: {', '.join(scores)}." if scores else f"{ended}; it has no scores."],
        numbers={name: shown_value(number(result[key]), key) for key, name in AT_A_GLANCE.items() if key in result},
        warnings=[*([f"{run['status']}: {error}"] if error else []), *skipped],
        sections=[
            Section(
                "Result",
                facts={in_words(name): text for name, text in known.items()},
                notes=["Test: of the best checkpoint by validation. All others: of the end of training."],
            ),
            Section("Over the course of training", pictures=curves),
            figures(folder / "figures", told="learning_curves" if curves else ""),
            Section("Facts", facts={key.replace("_", " "): described(value) for key, value in facts.items()}),
            Section("Data", facts={key: described(value) for key, value in data.items()}),
            made_with("Command, versions, hardware", [result], [f"python {result.get('command', 'train.py')}"]),
            text_file("Resolved config", folder / CONFIG, most=10**6),
            text_file("Log", folder / "train.log", most=200),
        ],
        made=f"Made {now()} by python scripts/report.py.",
    )


def course(history: pd.DataFrame, config: dict[str, Any]) -> list[Picture]:
    """Its curves over the epochs, and what an epoch is in updates, samples and seconds; none without a history."""
    names = ["epoch", "train/acc", "val/acc", "train/loss", "val/loss"]
    table = history.reindex(columns=list(dict.fromkeys([*history, *names])))
    if table["epoch"].isna().any() or table[names[1:]].isna().all(axis=None):
        return []
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    best = best_epoch(rows, monitor=config.get("monitor"), mode=str(config.get("monitor_mode")))
    markup = as_svg(learning_curves)(rows, best_epoch=best, alt="Accuracy and loss of training and validation by epoch")
    ends = [f"{shown_value(table[clock].iloc[-1], clock)} {in_words(clock)}" for clock in CLOCKS if clock in table]
    caption = f"Training and validation, and the gap between them. The last point is after {', '.join(ends)}."
    return [Picture(markup, caption)]


def figures(folder: Path, *, told: str) -> Section:
    """All PNG files but the one that the page has told."""
    pictures, left_out = [], []
    names = [
        name for name in dict.fromkeys([*CAPTIONS, *sorted(path.stem for path in folder.glob("*.png"))]) if name != told
    ]
    for path in [folder / f"{name}.png" for name in names]:
        caption = CAPTIONS.get(path.stem, f"{path.stem.replace('_', ' ').capitalize()}.")
        if markup := image(path, caption):
            pictures.append(Picture(markup, caption))
        elif path.exists():
            left_out.append(f"{path.name} is left out: it cannot be read as a PNG file of at most 20 MB.")
    return Section("Figures", text=left_out, pictures=pictures)


def text_file(title: str, path: Path, *, most: int) -> Section:
    """At most so many lines at the end of a text file; nothing where it cannot be read."""
    try:
        lines = read_text(path).rstrip().splitlines()
    except ConfigError:
        return Section(title)
    title = title if len(lines) <= most else f"{title} (the last {most} of {len(lines):,} lines)"
    return Section(title, code=["\n".join(lines[-most:])] if lines else [], folded=True)


def described(value: Any) -> str:
    """A value of result.json: lists and sections as YAML in one line."""
    if isinstance(value, dict | list):
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True).strip()
    return shown(value)
