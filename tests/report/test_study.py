"""The answer says what the numbers say, and no more; a study is read as far as it goes."""

import pytest

from mlplab.report.frames import grouped
from mlplab.report.study import Fit, Study, answer, axes_of, score_of, study_of


@pytest.fixture
def groups(runs):
    def made(values, *, metric="val/acc", **options):
        """{0.1: [accuracy of seed 0, of seed 1, …], …}"""
        rows = [
            ({"optimizer.lr": value}, {"seed": seed, metric: score, **options})
            for value, scores in values.items()
            for seed, score in enumerate(scores)
        ]
        return grouped(*runs(*rows))

    return made


ALIKE = {"adam": [0.8, 0.9, 1.0], "sgd": [0.79, 0.89, 0.99]}
ANSWERS = {
    "the best is set against the next": (
        {"adam": [0.9, 0.91, 0.92], "sgd": [0.5, 0.51, 0.52]}, "",
        ["lr=adam has the highest validation accuracy, 91.00 ± 2.48 % (n = 3), against 51.00 ± 2.48 % (n = 3) of "
         "lr=sgd, the next: the two differ (difference 40.00 percentage points, 95 % interval 37.73 to 42.27)."],
    ),
    "what the runs do not tell apart is said": (ALIKE, "", [": these runs do not tell the two apart ("]),
    "one run each proves nothing": ({"a": [0.9], "b": [0.5]}, "", ["1 run, so no interval", ": too few runs"]),
    "a tie has no winner": ({"a": [0.9, 0.8], "b": [0.8, 0.9]}, "", ["not tell the two apart (difference 0.00 "]),
    "the baseline is the one compared with": (
        {"none": [0.5, 0.52], "dropout": [0.7, 0.72], "combined": [0.8, 0.82]}, "none", [" of lr=none, the baseline: "],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "baseline", "parts"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer_says_what_the_runs_show(groups, values, baseline, parts):
    (sentence,) = answer(Study(baseline=baseline), groups(values), "val/acc")
    assert all(part in sentence.replace("\N{NO-BREAK SPACE}", " ") for part in parts), sentence


@pytest.mark.parametrize(
    ("values", "options", "beginning"),
    [
        ({0.1: [0.5]}, {"status": "failed"}, "No run finished"),
        ({0.1: [0.5], 9: []}, {}, "The validation loss of all runs is 0.5"),
        ({"a": [0.1, 0.11], "b": [0.5, 0.51]}, {}, "lr=a has the lowest validation loss"),
    ],
)
def test_the_answer_for_a_loss_and_for_one_group_or_none(groups, values, options, beginning):
    (sentence,) = answer(Study(), groups(values, metric="val/loss", **options), "val/loss")
    assert sentence.replace("\N{NO-BREAK SPACE}", " ").startswith(beginning)


def test_of_two_settings_the_best_of_each_line_is_named(two_settings):
    scores = {(8, "sgd"): 0.5, (16, "sgd"): 0.7, (32, "sgd"): 0.6, (8, "adam"): 0.9, (16, "adam"): 0.8}
    _, sentence = answer(Study(), two_settings("data.batch_size", "optimizer.name", scores), "val/acc")
    assert sentence.replace("\N{NO-BREAK SPACE}", " ") == (
        "Best data.batch_size for each optimizer.name: 16 at sgd (70.00 %), 8 at adam (90.00 %)."
    )


def test_the_baseline_is_that_of_the_same_second_setting(two_settings):
    scores = {(0.1, "none"): 0.5, (0.1, "dropout"): 0.9, (0.01, "none"): 0.6, (0.01, "dropout"): 0.7}
    (sentence,) = answer(Study(baseline="none"), two_settings("optimizer.lr", "model.kind", scores), "val/acc")
    assert sentence.startswith("lr=0.1, kind=dropout has the highest")
    assert "of lr=0.1, kind=none, the baseline:" in sentence


def test_the_best_is_compared_with_the_next_where_it_is_a_baseline_itself(two_settings):
    scores = {(50, "none"): 0.5, (50, "dropout"): 0.6, (800, "none"): 0.92, (800, "dropout"): 0.9}
    (sentence,) = answer(Study(baseline="none"), two_settings("data.train_size", "model.kind", scores), "val/acc")
    assert sentence.startswith("train_size=800, kind=none has the highest")
    assert "of train_size=800, kind=dropout, the next:" in sentence


def test_a_fitted_exponent_with_what_was_expected(groups):
    noise = {1: [8.1, 7.9], 2: [4.05, 3.95], 4: [2.0, 2.01], 8: [0.0, 0.0]}
    study = Study(fits=(Fit(y="grad/noise", x="optimizer.lr", expected=-1.0), Fit(y="grad/noise", x="val/acc")))
    *_, sentence, impossible = answer(study, groups(noise, metric="grad/noise"), "grad/noise")
    assert "goes as optimizer.lr to the power −0.998\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.025" in sentence
    assert ", expected −1 (95 % interval, 6 of 8 runs, R²" in sentence
    assert impossible.startswith("No power law")


def test_a_fit_reads_the_row_of_the_history_that_it_names(runs, history):
    groups = grouped(*runs(({}, {"history": history(0.1, 0.3, 0.8)})))
    values = [Fit(y="val/acc", x="updates", at=at).points(groups) for at in ("first", "last", "mean")]
    assert [float(points["y"].item()) for points in values] == pytest.approx([0.1, 0.8, 0.4])
    assert values[0]["x"].item() == 10
    without = grouped(*runs(({}, {"val/acc": 0.8})))  # a history, which alone has a first value
    assert [len(Fit(y="val/acc", x="updates", at=at).points(without)) for at in ("first", "last")] == [0, 1]


# Which score, which axes, which study


def test_the_test_score_decides_only_where_all_have_it(runs):
    both = {"val/acc": 0.5, "test/acc": 0.6}
    all_tested = grouped(*runs(({}, both), ({}, {"seed": 1, **both})))
    assert score_of(Study(), all_tested) == "test/acc"
    assert score_of(Study(metrics=("val/acc",)), all_tested) == "val/acc"
    assert score_of(Study(metrics=("val/acc", "test/acc")), all_tested) == "test/acc"
    assert score_of(Study(score="val/acc"), all_tested) == "val/acc"
    one_tested = grouped(*runs(({}, both), ({}, {"seed": 1, "val/acc": 0.5})))
    assert score_of(Study(), one_tested) == "val/acc"


@pytest.mark.parametrize("fit", ["x", 3, {"y": 1}, {"x": "a", "y": "b", "at": ["first"]}])
def test_a_study_of_wrong_types_is_read_as_far_as_it_goes(fit):
    study = study_of(
        {"name": None, "metrics": {"a": 1}, "x": ["x"], "fit": [fit, {"y": "y", "x": "x", "expected": []}]}
    )
    assert (study.name, len(study.fits)) == ("", 1)
    assert hash(study.fits[0])


def test_the_axis_is_what_the_study_names_or_has_more_numbers(two_settings):
    groups = two_settings("a.x", "a.y", {(x, y): 0.5 for x in (1, 2) for y in (1, 2, 3)})
    assert axes_of(Study(), groups) == ("a.y", "a.x")
    assert axes_of(Study(x="a.x"), groups) == ("a.x", "a.y")
