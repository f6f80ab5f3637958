"""Metrics and numbers as words and text."""

import math

from mlplab.report.intervals import Interval

SPLITS = {"train": "training", "val": "validation", "test": "test"}
MEASURES = {"acc": "accuracy", "loss": "loss"}
NAMES = {
    "gap/acc": "accuracy gap", "gap/loss": "loss gap",
    "fitted/acc": "evaluated training accuracy",
    "fitted/loss": "evaluated training loss", "gap/fitted/acc": "evaluated accuracy gap",
    "weights/l2_norm": "weight norm", "grad/norm": "gradient norm", "grad/noise": "gradient noise",
    "lr": "learning rate",
    "updates": "updates", "samples_seen": "samples seen", "seconds": "seconds of training", "epoch": "epochs",
    "fit_seconds": "seconds of the fit", "parameters": "parameters", "epochs": "epochs",
    "updates_per_epoch": "updates per epoch",
}  # fmt: skip
WHOLE = ("updates", "samples_seen", "parameters", "epochs")
MOST_DIGITS = 6


def in_words(metric: str) -> str:
    """`val/acc` as "validation accuracy"; a name that is not known stays as it is."""
    first, _, rest = metric.partition("/")
    if first == "best" and rest:
        return f"best {in_words(rest)}"
    if first in SPLITS and rest in MEASURES:
        return f"{SPLITS[first]} {MEASURES[rest]}"
    return NAMES.get(metric, metric)


def with_unit(metric: str) -> str:
    """In words, with "%" where the numbers are shown as percentages."""
    return f"{in_words(metric)}, %" if is_share(metric) else in_words(metric)


def as_title(metric: str) -> str:
    """For a plot, where there is room to say what a gap is."""
    return f"{with_unit(metric)}\n(training − validation)" if metric.startswith("gap/") else with_unit(metric)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of samples, shown in %."""
    return metric.rpartition("/")[2] == "acc"


def smaller_is_better(metric: str) -> bool:
    return metric.rpartition("/")[2] == "loss"


def shown_value(value: float, metric: str) -> str:
    """A number as the tables show it: accuracies in %, counts whole, seconds to a tenth; nothing for NaN."""
    return "" if math.isnan(value) else unsigned(value, metric).replace("-", "−")


def unsigned(value: float, metric: str) -> str:
    if is_share(metric):
        return f"{100 * value:.2f}"
    if metric in WHOLE:
        return f"{value:,.0f}"
    if metric.endswith("seconds"):
        return f"{value:,.1f}"
    return f"{value:.4g}"


def shown_interval(interval: Interval, metric: str) -> str:
    """Mean ± half of the 95 % interval; the mean alone where all runs are equal, or there is one."""
    mean, half_width = interval.mean, interval.half_width
    if not half_width > 0:
        return shown_value(mean, metric)
    if is_share(metric) or metric in WHOLE or metric.endswith("seconds"):
        return f"{shown_value(mean, metric)} ± {shown_value(half_width, metric)}"
    digits = max(0, 1 - math.floor(math.log10(half_width)))  # two of the half width count
    if digits > MOST_DIGITS:
        return f"{mean:.4g} ± {half_width:.2g}".replace("-", "−")
    return f"{mean:,.{digits}f} ± {half_width:,.{digits}f}".replace("-", "−")


def with_interval(interval: Interval, metric: str) -> str:
    """For a sentence: "99.60 ± 0.40 %", not to be broken between lines."""
    return (shown_interval(interval, metric) + (" %" if is_share(metric) else "")).replace(" ", "\N{NO-BREAK SPACE}")


def count(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
