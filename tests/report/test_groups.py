"""Groups over seeds and folds: who belongs to which, what counts, in which order."""

import pytest

from mlplab.report.groups import common_overrides, grouped, swept
from mlplab.report.runs import read


@pytest.fixture
def runs(make_run):
    def made(*rows):
        return read([make_run(f"r{i}", *arguments, **options) for i, (arguments, options) in enumerate(rows)])[0]

    return made


def lr(value, seed=0, accuracy=0.5, **options):
    return ({"optimizer": {"lr": value}},), {"seed": seed, "val/acc": accuracy, **options}


def test_runs_that_differ_in_the_seed_only_form_a_group(runs):
    groups = grouped(runs(lr(1.0, 0, 0.5), lr(0.2, 0, 0.8), lr(0.2, 1, 0.9), lr(0.2, 2, 1.0)))
    assert [group.label for group in groups] == ["0.2", "1"]  # by number
    assert groups[0].interval("val/acc").mean == pytest.approx(0.9)
    assert [group.interval("val/acc").n for group in groups] == [3, 1]


def test_folds_of_a_cross_validation_form_a_group(runs):
    rows = [(({"data": {"num_folds": 3, "fold": fold}},), {"val/acc": fold / 2}) for fold in range(3)]
    (group,) = grouped(runs(*rows))
    assert group.interval("val/acc").n == 3
    assert group.interval("val/acc").mean == 0.5


def test_what_did_not_finish_is_kept_apart(runs):
    groups = grouped(runs(lr(0.1, 0, 0.5), lr(0.1, 1, 0.0, status="diverged"), lr(9.0, 0, 0.0, status="failed")))
    assert [len(group.runs) for group in groups] == [1, 0]
    assert [[run.status for run in group.unfinished] for group in groups] == [["diverged"], ["failed"]]
    assert groups[1].interval("val/acc").n == 0


def test_the_same_seed_twice_counts_once(runs):
    (group,) = grouped(runs(lr(0.1, 0, 0.5), lr(0.1, 0, 0.7), lr(0.1, 1, 0.9)))
    assert group.values("val/acc") == [0.7, 0.9]
    assert [run.metrics["val/acc"] for run in group.repeated] == [0.5]


def test_values_that_are_not_finite_are_left_out_of_means(runs):
    (group,) = grouped(runs(lr(0.1, 0, 0.5), lr(0.1, 1, float("nan"))))
    assert group.interval("val/acc").n == 1


def test_two_settings_make_a_label_of_two_parts(runs):
    rows = [
        (({"optimizer": {"lr": rate}, "data": {"batch_size": size}},), {}) for rate in (0.1, 1.0) for size in (8, 4)
    ]
    groups = grouped(runs(*rows))
    assert [group.label for group in groups] == [
        "lr=0.1, batch_size=4", "lr=0.1, batch_size=8", "lr=1, batch_size=4", "lr=1, batch_size=8"
    ]  # fmt: skip
    assert swept(groups, "data.batch_size") == [4, 8]


def test_runs_without_any_difference_are_one_group(runs):
    assert [group.label for group in grouped(runs(lr(0.1, 0), lr(0.1, 1)))] == ["all runs"]


def test_what_was_typed_for_all_is_common(runs):
    made = runs(
        lr(0.1, 0, overrides=("data=moons", "optimizer.lr=0.1")), lr(1.0, 0, overrides=("optimizer.lr=1", "data=moons"))
    )
    assert common_overrides(made, grouped(made)) == ["data=moons"]
