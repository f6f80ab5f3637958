"""The figures of a search: where values lie on their axes, and what the figures name."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mlplab.tuning import plots
from mlplab.tuning.search import Search

SPACE = {
    "optimizer.lr": {"low": 0.01, "high": 1.0, "log": True},
    "model.hidden_sizes": {"choices": [[4], [8, 4], [16]]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
SEARCH = Search(
    name="test", n_trials=4, space=SPACE, overrides=(), monitor="val/acc", mode="max", pruner={}, storage=None
)  # fmt: skip
DISTRIBUTIONS = {
    "optimizer.lr": optuna.distributions.FloatDistribution(0.01, 1.0, log=True),
    "model.hidden_sizes": optuna.distributions.CategoricalDistribution(["[4]", "[8,4]", "[16]"]),
    "model.dropout": optuna.distributions.FloatDistribution(0.0, 0.5),
}


def trial(number, value, *, lr=0.1, sizes="[8,4]", dropout=0.25, state=TrialState.COMPLETE):
    made = create_trial(
        state=state, value=value if state == TrialState.COMPLETE else None, distributions=DISTRIBUTIONS,
        params={"optimizer.lr": lr, "model.hidden_sizes": sizes, "model.dropout": dropout},
        intermediate_values={1: value / 2, 2: value},
    )  # fmt: skip
    made.number = number
    return made


TRIALS = [
    trial(0, 0.5), trial(1, 0.9, lr=0.01, sizes="[4]"), trial(2, 0.4, state=TrialState.PRUNED), trial(3, 0.9, lr=1.0),
]  # fmt: skip


def test_values_lie_between_the_ends_of_their_axes():
    assert plots.relative(SPACE["optimizer.lr"], [0.01, 0.1, 1.0]) == pytest.approx([0, 0.5, 1])
    assert plots.relative(SPACE["model.dropout"], [0.0, 0.125]) == [0, 0.25]
    assert plots.places(SPACE["model.hidden_sizes"], "model.hidden_sizes", TRIALS) == [1, 0, 1, 1]


def test_equal_choices_lie_apart_but_near_their_name():
    heights = plots.relative(SPACE["model.hidden_sizes"], [1.0, 1.0, 1.0])
    assert len(set(heights)) == 3
    assert heights == pytest.approx([0.5] * 3, abs=plots.SPREAD)


def test_marks_name_the_ends_and_the_middle_in_few_digits():
    assert plots.marks(SPACE["optimizer.lr"]) == [(0, "0.01"), (0.5, "0.1"), (1, "1")]
    assert plots.marks(SPACE["model.hidden_sizes"]) == [(0, "[4]"), (0.5, "[8,4]"), (1, "[16]")]
    assert plots.marks({"low": 1 / 3, "high": 2 / 3})[1] == (0.5, "0.5")
    assert plots.marks({"choices": ["relu"]}) == [(0.5, "relu")]


def test_the_best_is_the_first_of_equal_ones():
    assert plots.best_of(plots.complete(TRIALS), SEARCH).number == 1
    assert plots.best_of(plots.complete(TRIALS), SEARCH._replace(mode="min")).number == 0


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (plots.in_turn, ["best so far", "pruned, its last score", "trial", "validation accuracy, %"]),
        (plots.by_setting, ["optimizer.lr", "[8,4]", "model.dropout", "best"]),
        (plots.together, ["lr", "[16]", "dropout", "best", "validation accuracy, %"]),
        (plots.while_training, ["validation", "pruned", "complete", "best"]),
    ],
)
@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1]], ids=["several", "one"])
def test_figures_name_what_they_show(draw, words, trials):
    svg = draw(trials, SEARCH, alt="what it shows")
    for word in words:
        if "pruned" in word and len(trials) == 1:
            continue
        assert f">{word}<" in svg or (len(trials) == 1 and word in ("complete",)), word


def test_trials_are_at_whole_numbers():
    svg = plots.in_turn(TRIALS[:2], SEARCH, alt="scores")
    assert ">0<" in svg
    assert ">0.5<" not in svg


def test_importances_are_named_with_their_shares():
    svg = plots.shares({"optimizer.lr": 0.75, "model.dropout": 0.25}, alt="importances")
    assert all(f">{word}<" in svg for word in ("optimizer.lr", "0.75", "0.25"))
