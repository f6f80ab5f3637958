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
    """The mean of `n` numbers and half the width of its 95 % interval by Student's t; NaN where they say nothing."""

    mean: float
    half_width: float
    n: int


def half_width(values: Any) -> Any:
    """Half the width of the 95 % interval of the mean, for each column of (n, …) values; NaN for a single row."""
    n = len(values)
    return stats.sem(values) * stats.t.ppf(0.975, n - 1) if n > 1 else np.full(np.shape(values)[1:], math.nan)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean with its 95 % interval; values that are not finite are left out, and one value has no interval."""
    finite = [value for value in map(float, values) if math.isfinite(value)]
    mean = float(np.mean(finite)) if finite else math.nan
    return Interval(mean, float(half_width(finite)) if finite else math.nan, len(finite))


def difference(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """How much larger the mean of `first` is, with a 95 % interval by Welch's t; None without spread to judge by."""
    if min(len(first), len(second)) < 2 or np.ptp(first) == 0 == np.ptp(second):
        return None
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of one that has no spread
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    return Interval(float((low + high) / 2), float((high - low) / 2), len(first) + len(second))


def power_law(x: np.ndarray, y: np.ndarray) -> tuple[Interval, Any] | None:
    """The exponent of y over x and scipy's line through the logarithms; None with less than three points, or one x.

    All numbers must be positive and finite.
    """
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    line = stats.linregress(np.log(x), np.log(y))
    return Interval(float(line.slope), float(line.stderr * stats.t.ppf(0.975, len(x) - 2)), len(x)), line


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


def shown_value(value: float, metric: str, digits: str = ".4g") -> str:
    """A number as the tables show it: accuracies in %, counts whole, seconds to a tenth; nothing for NaN."""
    digits = ".2f" if is_share(metric) else ",.0f" if metric in WHOLE else ",.1f" if "seconds" in metric else digits
    scaled = 100 * value if is_share(metric) else value
    return "" if math.isnan(value) else f"{scaled:{digits}}".replace("-", "−")


def shown_interval(interval: Interval, metric: str) -> str:
    """Mean ± half of the 95 % interval; the mean alone where all runs are equal, or there is one."""
    mean, half, _ = interval
    if not half > 0:
        return shown_value(mean, metric)
    decimals = max(0, 1 - math.floor(math.log10(half)))  # two digits of the half width count
    formats = (f",.{decimals}f", f",.{decimals}f") if decimals <= 6 else (".4g", ".2g")
    return " ± ".join(shown_value(value, metric, digits) for value, digits in zip((mean, half), formats, strict=True))


def with_interval(interval: Interval, metric: str) -> str:
    """For a sentence: "99.60 ± 0.40 %", not to be broken between lines."""
    return (shown_interval(interval, metric) + (" %" if is_share(metric) else "")).replace(" ", "\N{NO-BREAK SPACE}")
