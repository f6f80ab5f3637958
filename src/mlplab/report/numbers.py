"""What a few numbers say of the many they stand for, computed by scipy; metrics and numbers as words and text."""

import json
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

WORDS = {
    "train": "training", "val": "validation", "acc": "accuracy", "fitted": "evaluated training", "lr": "learning rate",
    "weights": "weight", "l2_norm": "norm", "grad": "gradient", "samples_seen": "samples seen", "epoch": "epochs",
    "seconds": "seconds of training", "fit_seconds": "seconds of the fit", "updates_per_epoch": "updates per epoch",
}  # fmt: skip
WHOLE = ("updates", "samples_seen", "parameters", "epochs")


class Interval(NamedTuple):
    """The mean of `n` numbers and the ends of its 95 % interval by Student's t; NaN where they say nothing."""

    mean: Any
    low: Any
    high: Any
    n: int


def mean_interval(values: Any, metric: str = "") -> Interval:
    """The mean of each column of finite (n, …) values, and its 95 % interval; one row has none."""
    n, mean = len(values), np.mean(values, axis=0) if len(values) else math.nan
    half = stats.sem(values) * stats.t.ppf(0.975, n - 1) if n > 1 else np.full_like(mean, math.nan)
    low, high = np.clip((mean - half, mean + half), *limits(metric))
    return Interval(mean, low, high, n)


def limits(metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric can have, where an interval of it ends at the latest."""
    least = -math.inf if not is_share(metric) else -1.0 if metric.startswith("gap/") else 0.0
    return least, 1.0 if is_share(metric) else math.inf


def difference(first: Sequence[float], second: Sequence[float], metric: str = "") -> Interval | None:
    """How much larger the mean of `first` is, with a 95 % interval by Welch's t; None without spread to judge by."""
    if min(len(first), len(second)) < 2 or np.ptp(first) == 0 == np.ptp(second):
        return None
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of one that has no spread
        found = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    least, greatest = limits(metric)
    low, high = np.clip(found, least - greatest, greatest - least)
    return Interval(np.mean(first) - np.mean(second), low, high, len(first) + len(second))


# Words


def in_words(metric: str) -> str:
    """`val/acc` as "validation accuracy", `gap/acc` as "accuracy gap"; words that are not known stay as they are."""
    words = [WORDS.get(word, word) for word in metric.split("/")]
    return " ".join([*words[1:], "gap"] if words[0] == "gap" else words)


def with_unit(metric: str) -> str:
    """In words, with "%" where the numbers are shown as percentages."""
    return f"{in_words(metric)}, %" if is_share(metric) else in_words(metric)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of samples, shown in %."""
    return metric.rpartition("/")[2] == "acc"


def smaller_is_better(metric: str) -> bool:
    return metric.rpartition("/")[2] == "loss"


def number(value: Any) -> float:
    """A number as result.json holds it, where NaN and infinities are strings; NaN for anything else."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def shown(value: Any) -> str:
    """A value as one types it on the command line."""
    if value is None or isinstance(value, bool | list | dict):
        return json.dumps(value, default=str, separators=(",", ": ")).replace('"', "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def texts_of(values: Sequence[Any]) -> list[str]:
    """Values as one types them, with all digits where fewer would not tell them apart."""
    texts = [shown(value) for value in values]
    exact = [str(value) if isinstance(value, float) else text for value, text in zip(values, texts, strict=True)]
    return texts if len(set(texts)) >= len(set(values)) else exact


def shown_value(value: float, metric: str, decimals: int | None = None) -> str:
    """A number as everything shows it: shares in %, counts whole, seconds to a tenth; nothing for NaN."""
    if math.isnan(value):
        return ""
    if is_share(metric):
        value, decimals = 100 * value, 2
    elif metric in WHOLE or "seconds" in metric:
        decimals = int("seconds" in metric)
    return (f"{value:.4g}" if decimals is None else f"{value:,.{decimals}f}").replace("-", "−")


def shown_interval(interval: Interval, metric: str) -> str:
    """Mean ± half of the 95 % interval, or mean [low, high] where a limit cuts it; the mean alone without spread."""
    mean, low, high, _ = interval
    if not high - low > 1e-12 * abs(mean):  # rounding is no spread
        return shown_value(mean, metric)
    decimals = max(0, 1 - math.floor(math.log10((high - low) / 2)))  # two digits of the half width count
    texts = [shown_value(value, metric, decimals if decimals <= 6 else None) for value in (mean, low, high, mean - low)]
    is_cut = not math.isclose(mean - low, high - mean, rel_tol=1e-6)
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if is_cut else f"{texts[0]} ± {texts[3]}"


def with_interval(interval: Interval, metric: str) -> str:
    """For a sentence: "99.60 ± 0.40 %", not to be broken between lines."""
    return (shown_interval(interval, metric) + (" %" if is_share(metric) else "")).replace(" ", "\N{NO-BREAK SPACE}")
