"""The answer says what the numbers say, and no more."""

import pytest

from mlplab.report.answer import answer, measured_at
from mlplab.report.groups import grouped
from mlplab.report.intervals import Interval
from mlplab.report.runs import read
from mlplab.report.study import Fit, Study, axes_of, score_of, study_of
from mlplab.report.words import shown_interval


@pytest.fixture
def groups(make_run):
    def made(values, *, key="lr", metric="val/acc", **options):
        """{0.1: [accuracy of seed 0, of seed 1, …], …}"""
        folders = [
            make_run(f"{index}-{seed}", {"optimizer": {key: value}}, seed=seed, **{metric: score}, **options)
            for index, (value, scores) in enumerate(values.items())
            for seed, score in enumerate(scores)
        ]
        return grouped(read(folders)[0])

    return made


def test_the_best_is_set_against_the_next(groups):
    (sentence,) = answer(Study(), groups({"adam": [0.9, 0.91, 0.92], "sgd": [0.5, 0.51, 0.52]}), "val/acc")
    assert sentence.startswith(
        "adam has the highest validation accuracy, 91.00\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}2.48"
    )
    assert "(n = 3)" in sentence
    assert (
        "the intervals do not overlap, and the two differ (difference 40 percentage points, 95 % interval 37.7 to 42.3)"
        in sentence
    )


def test_what_the_runs_do_not_tell_apart_is_said(groups):
    (sentence,) = answer(Study(), groups({"adam": [0.8, 0.9, 1.0], "sgd": [0.79, 0.89, 0.99]}), "val/acc")
    assert "the intervals overlap, and these runs do not tell the two apart" in sentence


def test_one_run_each_proves_nothing(groups):
    (sentence,) = answer(Study(), groups({"adam": [0.9], "sgd": [0.5]}), "val/acc")
    assert "1 run, so no interval" in sentence
    assert "too few runs" in sentence
    assert "differ" not in sentence


def test_a_tie_has_no_winner(groups):
    (sentence,) = answer(Study(), groups({"adam": [0.9, 0.8], "sgd": [0.8, 0.9]}), "val/acc")
    assert sentence.startswith("adam and sgd share the highest validation accuracy")


def test_the_baseline_is_the_one_compared_with(groups):
    values = {"none": [0.5, 0.52], "dropout": [0.7, 0.72], "combined": [0.8, 0.82]}
    (sentence,) = answer(Study(baseline="none"), groups(values), "val/acc")
    assert "of none, the baseline" in sentence
    assert "last of" not in sentence


def test_a_loss_is_best_when_it_is_least(groups):
    (sentence,) = answer(Study(), groups({"a": [0.1, 0.11], "b": [0.5, 0.51]}, metric="val/loss"), "val/loss")
    assert sentence.startswith("a has the lowest validation loss")


def test_a_trend_over_numbers(groups):
    rising = {10: [0.1, 0.12], 20: [0.3, 0.32], 40: [0.5, 0.52]}
    sentence = answer(Study(), groups(rising), "val/acc")[1]
    assert sentence.startswith(
        "The validation accuracy rises with optimizer.lr from each value to the next (Spearman's ρ = 0.9"
    )


def test_no_trend_is_claimed_where_there_is_none(groups):
    sentence = answer(Study(), groups({10: [0.1, 0.5], 20: [0.5, 0.1], 40: [0.1, 0.5]}), "val/acc")[-1]
    assert sentence.startswith("No steady trend")


def test_a_fitted_exponent_with_what_was_expected(groups):
    noise = {1: [8.1, 7.9], 2: [4.05, 3.95], 4: [2.0, 2.01], 8: [0.0, 0.0]}
    study = Study(fits=(Fit(y="grad/noise", x="optimizer.lr", expected=-1.0), Fit(y="grad/noise", x="val/acc")))
    *_, sentence, impossible = answer(study, groups(noise, metric="grad/noise"), "grad/noise")
    assert "goes as optimizer.lr to the power −0.998 ± 0.025" in sentence
    assert "6 runs, 2 runs without a positive value left out" in sentence
    assert "the expected −1 lies within that interval" in sentence
    assert impossible.startswith("No power law")


def test_a_fit_reads_the_row_of_the_history_that_it_names(make_run, history):
    (run,), _ = read([make_run("a", history=history(0.1, 0.3, 0.8))])
    values = [measured_at(run, Fit(y="val/acc", x="x", at=at)) for at in ("first", "last", "mean")]
    assert values == pytest.approx([0.1, 0.8, 0.4])


def test_a_setting_that_alone_finished_is_no_winner(make_run):
    folders = [make_run("a", {"optimizer": {"lr": 0.1}}, **{"val/acc": 0.5}),
               make_run("b", {"optimizer": {"lr": 9}}, status="diverged")]  # fmt: skip
    (sentence,) = answer(Study(), grouped(read(folders)[0]), "val/acc")
    assert sentence.startswith("Of 2 settings only lr=0.1 has finished runs: the validation accuracy is 50.00")
    assert "highest" not in sentence


def test_nothing_finished_is_said(groups):
    (sentence,) = answer(Study(), groups({0.1: [0.5]}, status="failed"), "val/acc")
    assert sentence.startswith("No run finished")


# Which score, which axes, which study


def test_the_test_score_decides_only_where_all_have_it(make_run):
    both = {"val/acc": 0.5, "test/acc": 0.6}
    all_tested = grouped(read([make_run("a", **both), make_run("b", seed=1, **both)])[0])
    assert score_of(Study(), all_tested) == "test/acc"
    assert score_of(Study(metrics=("val/acc",)), all_tested) == "val/acc"
    assert score_of(Study(metrics=("val/acc", "test/acc")), all_tested) == "test/acc"
    assert score_of(Study(score="val/acc"), all_tested) == "val/acc"
    assert (
        score_of(Study(), grouped(read([make_run("c", **both), make_run("d", seed=1, **{"val/acc": 0.5})])[0]))
        == "val/acc"
    )


def test_the_study_is_that_of_all_runs_or_none(make_run):
    one, two = {"study": {"name": "a", "fit": {"y": "y", "x": "x", "expected": -1}}}, {"study": {"name": "b"}}
    runs, _ = read([make_run("1", one), make_run("2", one)])
    assert study_of({}, runs) == Study(name="a", fits=(Fit("y", "x", "last", -1.0),))
    assert study_of({"study": {"name": "c"}}, runs).name == "c"
    assert study_of({}, [*runs, *read([make_run("3", two)])[0]]) == Study()


@pytest.mark.parametrize("study", [{"name": ["x"], "metrics": {"a": 1}, "fit": ["x", 3], "x": None}, {"fit": {"y": 1}}])
def test_a_study_of_wrong_types_is_read_as_far_as_it_goes(make_run, study):
    runs, _ = read([make_run("1")])
    assert study_of({"study": study}, runs).fits == ()


def test_the_axis_is_what_the_study_names_or_has_more_numbers(make_run):
    configs = [{"a": {"x": x, "y": y}} for x in (1, 2) for y in (1, 2, 3)]
    groups = grouped(read([make_run(f"{i}", config) for i, config in enumerate(configs)])[0])
    assert axes_of(Study(), groups) == ("a.y", "a.x")
    assert axes_of(Study(x="a.x"), groups) == ("a.x", "a.y")


def test_numbers_are_shown_to_the_digits_their_interval_gives_them():
    assert shown_interval(Interval(0.123456, 0.0123, 3), "val/loss") == "0.123 ± 0.012"
    assert shown_interval(Interval(-0.5, 0.01, 3), "gap/acc") == "−50.00 ± 1.00"
    assert shown_interval(Interval(1234.5, 0.0, 3), "updates") == "1,234"
    assert shown_interval(Interval(2.0, float("nan"), 1), "val/loss") == "2"
    assert shown_interval(Interval(1e-9, 1e-10, 3), "grad/noise") == "1e−09 ± 1e−10"
