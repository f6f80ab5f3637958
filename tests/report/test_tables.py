"""Tables of groups and runs."""

import pandas as pd
import pytest

from mlplab.report.frames import grouped, read
from mlplab.report.tables import budget_table, chosen_epochs, group_table, heat_map, summary


@pytest.fixture
def sweep(make_run, history):
    def run(name, rate, seed, accuracy, rows=None, **options):
        return make_run(name, {"optimizer": {"lr": rate}}, seed=seed, history=rows, **{"val/acc": accuracy}, **options)

    return read(
        [
            run("a0", 0.1, 0, 0.80, history(0.5, 0.6, 0.7, updates=2)),
            run("a1", 0.1, 1, 0.82, history(0.6, 0.7, 0.8, updates=2)),
            run("b0", 0.5, 0, 0.90, history(0.7, 0.9, updates=1)),
            run("b1", 0.5, 1, 0.00, status="diverged", result={"error": "loss of update 3"}),
        ]
    )[:2]


def test_a_row_per_group(sweep):
    table = group_table(grouped(*sweep), ["val/acc", "seconds"], "val/acc")
    assert table.headings[:2] == ["optimizer.lr", "n"]
    accuracy = table.headings.index("validation accuracy, %")
    assert [*table.rows[0][:2], table.rows[0][accuracy]] == ["0.1", "2", "81.00 ± 12.71"]
    assert [*table.rows[1][:2], table.rows[1][accuracy]] == ["0.5", "1 of 2", "90.00"]
    assert table.marked is None  # one run proves nothing
    assert table.headings[-1] == "seconds of training"  # of the history, not those of the fit
    assert table.rows[1][-1] == "0.2"


def test_a_mean_of_fewer_runs_says_of_how_many(runs):
    scores = [{"val/loss": loss} for loss in (0.5, "inf", 0.52)]
    table = group_table(grouped(*runs(*(({}, {"seed": seed, **one}) for seed, one in enumerate(scores)))), ["val/loss"])
    assert table.rows == [["all runs", "3", "0.51 ± 0.13 (n = 2)"]]


@pytest.mark.parametrize(
    ("scores", "marked"),
    [
        ({"a": [0.5, 0.51], "b": [0.9, 0.91], "c": [0.6, 0.61]}, 1),
        ({"a": [0.8, 0.9], "b": [0.81, 0.91]}, None),
        ({"a": [0.9, 0.91], "b": [0.7, 0.71], "c": [0.4, 0.9]}, None),  # of a small mean, but too uncertain
        ({"a": [0.9], "b": [0.5]}, None),
        ({"a": [0.9, 0.91]}, None),
    ],
)
def test_the_best_group_is_marked_where_it_is_told_apart_from_every_other(runs, scores, marked):
    rows = (
        ({"model.kind": name}, {"seed": seed, "val/acc": score})
        for name, values in scores.items()
        for seed, score in enumerate(values)
    )
    assert group_table(grouped(*runs(*rows)), ["val/acc"], "val/acc").marked == marked


def test_budgets_are_what_the_shortest_run_had_spent(sweep):
    table = budget_table(grouped(*sweep))
    assert table.headings[1:] == [
        "validation accuracy, % at 2 updates", "validation accuracy, % at 32 samples seen",
        "validation accuracy, % at 0.2 seconds of training",
    ]  # fmt: skip
    cut = ["55.00 [0.00, 100.00]", "65.00 [1.47, 100.00]", "65.00 [1.47, 100.00]"]
    assert table.rows == [["0.1", *cut], ["0.5", "90.00", "90.00", "90.00"]]


def test_the_summary_has_a_row_per_run_with_all_that_is_known(sweep, tmp_path):
    path = tmp_path / "summary.csv"
    summary(sweep[0], grouped(*sweep), tmp_path).to_csv(path, index=False)
    rows = pd.read_csv(path)
    assert list(rows["folder"]) == ["a0", "a1", "b0", "b1"]
    assert list(rows["status"]) == ["finished"] * 3 + ["diverged"]
    assert list(rows["counted"]) == [True, True, True, False]
    assert list(rows["optimizer.lr"]) == [0.1, 0.1, 0.5, 0.5]
    assert list(rows["seed"]) == [0, 1, 0, 1]
    assert list(rows["val/acc"]) == [0.80, 0.82, 0.90, 0.00]
    assert list(rows["samples_seen"]) == [80] * 4
    assert rows["error"][3] == "loss of update 3"
    assert {"updates", "epochs", "fit_seconds", "parameters", "batch_size", "command", "git_commit"} <= set(rows)


def test_a_heat_map_has_a_cell_for_each_pair_and_says_where_there_is_no_run(two_settings):
    keys, scores = ("data.batch_size", "optimizer.lr"), {(8, 0.1): 0.5, (8, 0.2): 0.7, (16, 0.1): 0.9}
    table = heat_map(two_settings(*keys, scores), "val/acc", *keys)
    assert table.headings == ["validation accuracy, %: optimizer.lr ↓ data.batch_size →", "8", "16"]
    assert table.rows == [["0.1", "50.00", "90.00"], ["0.2", "70.00", "–"]]
    assert table.shades == [[0, 1], [pytest.approx(0.5), 0]]


# The epoch that validation chose against the test set's own

CURVES = {
    "epoch": [1.0, 2.0, 3.0, 4.0],
    "updates": [2, 4, 6, 8],
    "val/loss": [0.9, 0.5, 0.7, 0.6],
    "val/acc": [0.6, 0.7, 0.8, 0.8],
    "test/loss": [0.8, 0.6, 0.5, 0.9],
    "test/acc": [0.5, 0.9, 0.7, 0.6],
}


@pytest.mark.parametrize(
    ("monitor", "cells"),
    [
        ("val/loss", ["2", "3", "4", "90.00", "70.00", "60.00", "0.6", "0.5", "0.9"]),
        # Of two at 80 % the one of the lower loss.
        ("val/acc", ["4", "2", "4", "60.00", "90.00", "60.00", "0.9", "0.6", "0.9"]),
    ],
)
def test_the_test_set_chooses_by_the_same_measure(make_run, monitor, cells):
    folder = make_run("run", {"monitor": monitor})
    pd.DataFrame(CURVES).to_csv(folder / "history.csv", index=False)
    table = chosen_epochs(grouped(*read([folder])[:2]))
    assert table.rows[0][1:] == cells
    assert len(table.headings) == len(table.rows[0])
