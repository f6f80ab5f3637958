"""Intervals and power laws, against values from a table and data of known law; numbers as text."""

import math

import pytest

from mlplab.report.numbers import Interval, difference, mean_interval, shown, shown_interval


def test_the_interval_is_students():
    """Three numbers with mean 2 and standard deviation 1: t(0.975, 2) = 4.3027 from the table."""
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.high - 2 == 2 - interval.low == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert interval.n == 3


def test_the_difference_is_welchs():
    """Means 2 and 5, variances 1 and 4, n = 3 each: 2.94 degrees of freedom, t = 3.218 by the table."""
    gap = difference([4.0, 5.0, 6.0], [0.0, 2.0, 4.0])
    assert gap.mean == pytest.approx(3)
    assert gap.high - 3 == pytest.approx(3.218 * math.sqrt(1 / 3 + 4 / 3), rel=0.01)


def test_numbers_are_shown_to_the_digits_their_interval_gives_them():
    assert shown_interval(Interval(0.123456, 0.111156, 0.135756, 3), "val/loss") == "0.123 ± 0.012"
    assert shown_interval(Interval(-0.5, -0.51, -0.49, 3), "gap/acc") == "−50.00 ± 1.00"
    assert shown_interval(Interval(1234.5, 1234.5, 1234.5, 3), "updates") == "1,234"
    assert shown_interval(Interval(2.0, math.nan, math.nan, 1), "val/loss") == "2"
    assert shown_interval(mean_interval([0.1, 0.1, 0.1]), "val/loss") == "0.1"  # whose mean is rounded
    assert shown_interval(Interval(1e-9, 9e-10, 1.1e-9, 3), "grad/noise") == "1e−09 ± 1e−10"


CUT = {
    "acc at 100 %": ([0.96, 1.0], "val/acc", 0.7259, 1, "98.00 [72.59, 100.00]"),
    "acc at 0": ([0.0, 0.04], "best/val/acc", 0, 0.2741, "2.00 [0.00, 27.41]"),
    "a gap may be negative": ([-0.04, 0.0], "gap/acc", -0.2741, 0.2341, "−2.00 ± 25.41"),
    "a gap ends at −100": ([-1.0, -0.9], "gap/fitted/acc", -1, -0.3147, "−95.00 [−100.00, −31.47]"),
    "no share": ([0.0, 0.04], "val/loss", -0.2341, 0.2741, "0.02 ± 0.25"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "metric", "low", "high", "text"), CUT.values(), ids=CUT)
def test_the_interval_of_a_share_ends_where_shares_do(values, metric, low, high, text):
    interval = mean_interval(values, metric)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    assert shown_interval(interval, metric) == text


def test_two_shares_differ_by_100_points_at_most():
    assert difference([0.9, 1.0], [0.0, 0.1], "val/acc").high == 1
    assert difference([0.9, 1.0], [-1.0, -0.9], "gap/acc").high == 2
    assert difference([0.9, 1.0], [0.0, 0.1], "val/loss").high > 1


def test_values_are_shown_as_they_are_typed():
    values = {None: "null", True: "true", 0.10: "0.1", 1e-5: "1e-05", 8: "8", "[1,2]": "[1,2]"}
    assert [shown(value) for value in values] == list(values.values())
