"""The rules: what they accept, what they refuse, and what they say."""

import math
import pickle

import pytest

from mlplab.config.rules import NULL, SWITCH, TEXT, each, integer, number, one_of
from mlplab.errors import ConfigError, did_you_mean


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (integer(1), [1, 2, 10**9], [0, -1, 1.0, True, "1", None, math.nan, [1]]),
        (integer(0, 5), [0, 5], [-1, 6]),
        (number(), [0, -1, 1.5, -1e300], [math.nan, math.inf, -math.inf, True, "1", None, [1], 10**400]),
        (number(least=0, below=1), [0, 0.0, 0.999], [-1e-9, 1, 1.0]),
        (number(above=0, most=1), [1e-9, 1, 1.0], [0, 0.0, 1.0001]),
        (one_of("min", "max"), ["min", "max"], ["mi", "", None, ["min"]]),
        (one_of(None, 1, 3), [None, 1, 3], [True, 1.0, 2, "1"]),
        (SWITCH, [True, False], [0, 1, "true", None]),
        (NULL, [None], [0, False, "", "null"]),
        (each(integer(1)), [[], [1], (1, 2)], [[0], [1, "2"], "12", 1, None]),
        (each(integer(1), empty=False), [[1]], [[], [0]]),
        (TEXT, ["a"], ["", 1, None]),
        (NULL | integer(1), [None, 1], [0, "", False]),
    ],
)
def test_rules_hold_for_what_they_should(rule, good, bad):
    assert [value for value in good if not rule.holds(value)] == []
    assert [value for value in bad if rule.holds(value)] == []


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError("first", "second")))
    assert isinstance(error, ConfigError)
    assert error.faults == ("first", "second")


def test_the_nearest_word_is_proposed_and_nothing_far():
    assert did_you_mean("dropot", ["dropout", "model"]) == "; did you mean 'dropout'?"
    assert did_you_mean("SGD", ["adam", "sgd"]) == "; did you mean 'sgd'?"
    assert did_you_mean("xyz", ["dropout", "model"]) == ""
