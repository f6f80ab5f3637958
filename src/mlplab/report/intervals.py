"""What a few numbers say of the many they stand for: intervals, trends, power laws, all computed by scipy."""

import functools
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@functools.cache
def student(degrees: int) -> float:
    """How many standard errors a 95 % interval reaches to either side, by Student's t."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


class Interval(NamedTuple):
    """The mean of `n` numbers and half the width of its 95 % interval by Student's t; NaN where they say nothing."""

    mean: float
    half_width: float
    n: int

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two intervals share a point; an interval of unknown width may be as wide as it likes."""
        distance = abs(self.mean - other.mean)
        return not distance > self.half_width + other.half_width


class PowerLaw(NamedTuple):
    """y = factor · x^exponent, fitted to `n` points by linear regression of log y on log x."""

    exponent: float
    half_width: float
    factor: float
    r_squared: float
    n: int


class Trend(NamedTuple):
    """Spearman's rank correlation of `n` pairs, and the probability of one as strong without any trend."""

    correlation: float
    p_value: float
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean with its 95 % interval; values that are not finite are left out, and one value has no interval."""
    finite = [value for value in map(float, values) if math.isfinite(value)]
    if not finite:
        return Interval(math.nan, math.nan, 0)
    mean, n = float(np.mean(finite)), len(finite)
    if n == 1:
        return Interval(mean, math.nan, 1)
    return Interval(mean, float(np.std(finite, ddof=1)) / math.sqrt(n) * student(n - 1), n)


def difference(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """How much larger the mean of `first` is, with a 95 % interval by Welch's t; None without spread to judge by."""
    if min(len(first), len(second)) < 2 or np.ptp(first) == 0 == np.ptp(second):
        return None
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of one that has no spread
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return Interval(float((low + high) / 2), float((high - low) / 2), len(first) + len(second))


def trend(x: Sequence[float], y: Sequence[float]) -> Trend | None:
    """Whether y rises or falls with x; None where either is constant or there are fewer than four pairs."""
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = stats.spearmanr(x, y)
    return Trend(float(found.statistic), float(found.pvalue), len(x))


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """The exponent of y over x with its 95 % interval; None with fewer than three points or a single x.

    Points where x or y is not a positive finite number have no logarithm and are left out.
    """
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    usable = np.isfinite(xs) & np.isfinite(ys) & (xs > 0) & (ys > 0)
    xs, ys = np.log(xs[usable]), np.log(ys[usable])
    if len(xs) < 3 or np.ptp(xs) == 0:
        return None
    line = stats.linregress(xs, ys)
    half_width = float(line.stderr * student(len(xs) - 2))
    return PowerLaw(float(line.slope), half_width, math.exp(line.intercept), float(line.rvalue) ** 2, len(xs))
