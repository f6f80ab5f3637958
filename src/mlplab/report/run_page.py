"""The page of a single run: result, curves, figures, data, config, command, versions."""

from typing import Any

import yaml

from mlplab.errors import ConfigError
from mlplab.figures.style import Picture
from mlplab.files import now
from mlplab.report.curves import CLOCKS, points, run_curves
from mlplab.report.page import Page, Section, Table, image
from mlplab.report.runs import Run, read_text
from mlplab.report.settings import shown
from mlplab.report.words import SPLITS, in_words, shown_value
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
MOST_LINES_OF_LOG = 200
WHEN = {"train": "training (last epoch)", "val": "validation (last epoch)", "test": "test (best checkpoint)"}
TOLD_ELSEWHERE = (
    "status", "metrics", "samples", "overrides", "command", "versions", "hardware", "git_commit", "error",
    "test_evaluations", "updates", "epochs", "fit_seconds", "parameters",
)  # fmt: skip


def run_page(run: Run, skipped: list[str]) -> Page:
    """Everything that a run folder says of its run."""
    values = run.result
    sections = [
        result_section(run),
        course(run),
        figures(run),
        facts(run),
        data(run),
        command(run),
        config(run),
        log(run),
    ]
    error = str(values.get("error") or "").strip()
    return Page(
        kind="one run",
        title=run.folder.resolve().name,
        question="",
        claim="",
        source="",
        answer=[outcome(run)],
        numbers=at_a_glance(run),
        warnings=[*([f"{run.status}: {error}"] if error else []), *skipped],
        sections=[section for section in sections if section],
        made=f"Made {now()} by python scripts/report.py.",
    )


def outcome(run: Run) -> str:
    """How the run ended, in a sentence."""
    scores = [
        f"{in_words(f'{split}/acc')} {shown_value(run.metrics[f'{split}/acc'], 'acc')} %"
        for split in ("test", "val", "train")
        if f"{split}/acc" in run.metrics
    ]
    reason = run.result.get("stop_reason")
    ended = f"The run is {run.status}" + (f" ({reason})" if reason else "")
    return f"{ended}: {', '.join(scores)}." if scores else f"{ended}; it has no scores."


def at_a_glance(run: Run) -> dict[str, str]:
    found = {}
    for key, name in (
        ("updates", "updates"),
        ("epochs", "epochs"),
        ("fit_seconds", "s of the fit"),
        ("parameters", "parameters"),
    ):
        if isinstance(value := run.result.get(key), int | float):
            found[name] = shown_value(float(value), key)
    return found


def result_section(run: Run) -> Section | None:
    """Loss and accuracy of each split, then the other metrics."""
    rows = [
        [
            WHEN[split],
            *(shown_value(run.metrics.get(f"{split}/{name}", float("nan")), name) for name in ("loss", "acc")),
        ]
        for split in SPLITS
        if f"{split}/acc" in run.metrics or f"{split}/loss" in run.metrics
    ]
    others = {name: value for name, value in run.metrics.items() if name.partition("/")[0] not in SPLITS}
    tables = [Table(["split", "loss", "accuracy, %"], rows)] if rows else []
    shown_others = {in_words(name): shown_value(value, name) + (" %" if name.endswith("/acc") else "")
                    for name, value in others.items()}  # fmt: skip
    return Section("Result", tables=tables, facts=shown_others) if tables or others else None


def course(run: Run) -> Section | None:
    """Its curves over the epochs, and what an epoch is in updates, samples and seconds."""
    if not has_curves(run):
        return None
    alt = "Training and validation accuracy and loss over the epochs"
    ends = [
        f"{shown_value(float(run.columns[clock][-1]), clock)} {in_words(clock)}"
        for clock in CLOCKS
        if clock in run.columns
    ]
    caption = f"Training and validation, and the gap between them. The last point is after {', '.join(ends)}."
    markup = run_curves(run, best_epoch=best_epoch(run), alt=alt)
    return Section("Over the course of training", pictures=[Picture(markup, caption)])


def has_curves(run: Run) -> bool:
    return any(points(run, "epoch", name) for name in ("val/acc", "train/acc", "val/loss", "train/loss"))


def best_epoch(run: Run) -> float | None:
    """The epoch at which the monitored metric was best, which is that of the best checkpoint; None where unknown."""
    found = points(run, "epoch", str(run.config.get("monitor")))
    if found is None:
        return None
    epochs, values = found
    return float(epochs[values.argmin() if run.config.get("monitor_mode") == "min" else values.argmax()])


def figures(run: Run) -> Section | None:
    """All PNG files of `figures/` but the curves that `course` shows."""
    pictures, notes = [], []
    order = list(CAPTIONS)
    told = {"learning_curves"} if has_curves(run) else set()
    paths = [path for path in (run.folder / "figures").glob("*.png") if path.stem not in told]
    for path in sorted(paths, key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path)):
        caption = CAPTIONS.get(path.stem, f"{path.stem.replace('_', ' ').capitalize()}.")
        markup = image(path, caption)
        if markup is None:
            notes.append(f"{path.name} is left out: it cannot be read as a PNG file of at most 20 MB.")
        else:
            pictures.append(Picture(markup, caption))
    return Section("Figures", pictures=pictures, notes=notes) if pictures or notes else None


def facts(run: Run) -> Section:
    """What else result.json says."""
    values = {key: value for key, value in run.result.items() if key not in TOLD_ELSEWHERE and value is not None}
    found = {key.replace("_", " "): described(value) for key, value in values.items()}
    looks = run.result.get("test_evaluations")
    if isinstance(looks, list):
        found["looks at the test set"] = f"{len(looks)}" + (f" ({', '.join(map(str, looks[:5]))})" if looks else "")
    return Section("Facts", facts=found)


def data(run: Run) -> Section:
    """The samples of each split, and the section `data` of the config."""
    samples = run.result.get("samples")
    found = (
        {f"{SPLITS.get(split, split)} samples": described(value) for split, value in samples.items()}
        if isinstance(samples, dict)
        else {}
    )
    found |= {key: shown(value) for key, value in run.config.items() if key.startswith("data.")}
    return Section("Data", facts=found)


def command(run: Run) -> Section:
    """The command, and what it ran on."""
    versions = run.result.get("versions")
    found = {str(name): str(value) for name, value in versions.items()} if isinstance(versions, dict) else {}
    for name, key in (("hardware", "hardware"), ("code", "git_commit")):
        if run.result.get(key):
            found[name] = str(run.result[key])
    return Section("Command, versions, hardware", code=[f"python {run.result.get('command', 'train.py')}"], facts=found)


def config(run: Run) -> Section | None:
    """The resolved config as it stands in the folder."""
    if not run.config:
        return None
    return Section("Resolved config", code=[read_text(run.folder / CONFIG).rstrip()], folded=True)


def log(run: Run) -> Section | None:
    """The end of train.log."""
    try:
        lines = read_text(run.folder / "train.log").splitlines()
    except ConfigError:
        return None
    end = lines[-MOST_LINES_OF_LOG:]
    title = "Log" if len(end) == len(lines) else f"Log (the last {len(end)} of {len(lines):,} lines)"
    return Section(title, code=["\n".join(end)], folded=True) if end else None


def described(value: Any) -> str:
    if isinstance(value, dict | list):
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True).strip()
    return (
        f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000
        else shown(value)
    )
