"""history.csv against the logs of the same run, and after a resume."""

import csv

import pytest

from mlplab.callbacks.history import COLUMNS

ONLY_HISTORY = ("data.batch_size=14", "trainer.max_epochs=3", "++trainer.val_check_interval=2")  # 56 samples: 4 updates


def table(folder):
    """The file: one dict of numbers per row, None for an empty cell."""
    with (folder / "history.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [{name: float(cell) if cell else None for name, cell in row.items()} for row in reader]
    assert tuple(reader.fieldnames) == COLUMNS
    return rows


def column(rows, name):
    return [row[name] for row in rows]


def test_a_row_holds_what_was_logged_at_that_validation(finished, scalars):
    rows, logged = table(finished.folder), scalars(finished.folder)
    assert column(rows, "epoch") == [1, 2, 3, 4]
    assert column(rows, "updates") == [4, 8, 12, 16]
    assert column(rows, "samples_seen") == [56, 112, 168, 224]
    for name in COLUMNS[4:-1]:
        at = dict(logged[name])  # the update monitor logs every update here
        assert column(rows, name) == pytest.approx([at[step] for step in (4, 8, 12, 16)], rel=1e-6), name
    assert rows[0]["grad/noise"] == pytest.approx(logged["grad/noise"][0][1], rel=1e-6)
    assert column(rows, "grad/noise")[1:] == [None] * 3  # measured as often as its share of the time allows


def test_seconds_grow_up_to_the_time_of_the_run(finished):
    seconds = column(table(finished.folder), "seconds")
    assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3] < finished.result["fit_seconds"]


def test_validations_within_an_epoch_have_rows_of_their_own(launch):
    rows = table(launch(*ONLY_HISTORY).folder)
    assert column(rows, "epoch") == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert column(rows, "samples_seen") == [28, 56, 84, 112, 140, 168]


def test_an_epoch_without_validation_has_the_values_of_training(launch):
    rows = table(launch("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2").folder)
    assert column(rows, "updates") == [2, 4, 6]
    assert [value is None for value in column(rows, "val/loss")] == [True, False, False]  # the last state is validated
    assert None not in column(rows, "train/loss")


def test_what_an_added_callback_measures_is_in_the_row_of_its_validation(launch_full):
    added = "+callbacks.curve={_target_: mlplab.callbacks.measure.SplitCurve, split: train}"
    run = launch_full("logger=none", "callbacks=study", "test=false", added)
    with (run.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]
    assert float(last["gap/fitted/acc"]) == pytest.approx(float(last["fitted/acc"]) - float(last["val/acc"]))
    assert all(row["fitted/loss"] for row in rows)


def test_noise_measured_before_training_has_a_row_of_its_own(launch_full):
    """It is of the weights that training begins with: the same number for every batch size's own noise."""
    quiet = ("logger=none", "callbacks=study", "test=false", "callbacks.gradient_noise.before_training=true")
    runs = [launch_full(*quiet, f"data.batch_size={size}", folder=f"{size}") for size in (7, 14)]
    for run in runs:
        first, second, *_ = table(run.folder)
        assert first["epoch"] == first["updates"] == first["samples_seen"] == 0
        assert first["grad/noise"] > 0
        assert first["val/loss"] is first["train/loss"] is first["grad/norm"] is None
        assert second["updates"] == len(run.trainer.datamodule.datasets["train"]) // run.config.data.batch_size
    ours, theirs = (table(run.folder)[0] for run in runs)
    assert ours["weights/l2_norm"] == theirs["weights/l2_norm"]
    assert ours["grad/noise"] > theirs["grad/noise"]
