"""Intervals and power laws, against values from a table and data of known law; numbers as text."""

import math

import numpy as np
import pytest

from mlplab.report.numbers import Interval, difference, mean_interval, power_law, shown, shown_interval


def test_the_interval_is_students():
    """Three numbers with mean 2 and standard deviation 1: t(0.975, 2) = 4.3027 from the table."""
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert interval.n == 3


def test_one_number_has_no_interval_and_none_no_mean():
    one = mean_interval([0.5])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.half_width)
    assert mean_interval([]).n == 0
    assert mean_interval([math.nan, 1.0, math.inf, 3.0]).mean == 2


def test_the_difference_is_welchs():
    """Means 2 and 5, variances 1 and 4, n = 3 each: 2.94 degrees of freedom, t = 3.218 by the table."""
    gap = difference([4.0, 5.0, 6.0], [0.0, 2.0, 4.0])
    assert gap.mean == pytest.approx(3)
    assert gap.half_width == pytest.approx(3.218 * math.sqrt(1 / 3 + 4 / 3), rel=0.01)


def test_no_difference_is_claimed_without_spread():
    assert difference([1.0], [2.0, 3.0]) is None
    assert difference([1.0, 1.0], [2.0, 2.0]) is None


def test_a_power_law_is_found_again():
    x = np.repeat([1, 4, 16, 64, 256], 5)
    exponent, line = power_law(x, 3.0 / x * np.exp(np.random.default_rng(1).normal(0, 0.05, size=len(x))))
    assert abs(exponent.mean + 1) <= exponent.half_width < 0.02
    assert math.exp(line.intercept) == pytest.approx(3, rel=0.05)


def test_a_power_law_takes_three_points_at_two_places():
    assert power_law(np.array([1, 1, 1]), np.array([1, 2, 3])) is None
    assert power_law(np.array([1, 2]), np.array([1, 2])) is None


def test_numbers_are_shown_to_the_digits_their_interval_gives_them():
    assert shown_interval(Interval(0.123456, 0.0123, 3), "val/loss") == "0.123 ± 0.012"
    assert shown_interval(Interval(-0.5, 0.01, 3), "gap/acc") == "−50.00 ± 1.00"
    assert shown_interval(Interval(1234.5, 0.0, 3), "updates") == "1,234"
    assert shown_interval(Interval(2.0, float("nan"), 1), "val/loss") == "2"
    assert shown_interval(Interval(1e-9, 1e-10, 3), "grad/noise") == "1e−09 ± 1e−10"


def test_values_are_shown_as_they_are_typed():
    values = {None: "null", True: "true", 0.10: "0.1", 1e-5: "1e-05", 8: "8", "[1,2]": "[1,2]"}
    assert [shown(value) for value in values] == list(values.values())
