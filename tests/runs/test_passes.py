"""Several updates for each pass, several short epochs for each of Lightning's: nothing that a person counts changes."""

import pytest

from mlplab.callbacks.history import HISTORY
from mlplab.report.frames import read_history
from mlplab.runs import build
from mlplab.runs.passes import epochs_per_validation

TIMES = ["seconds", "grad/noise"]  # the noise is measured where the time allows


@pytest.mark.parametrize(
    ("overrides", "every", "span"),
    [
        ("data.batch_size=full trainer.max_epochs=1000", 20, 20),
        ("data.batch_size=full trainer.max_epochs=50", 1, 1),  # few epochs are all looked at
        ("data.batch_size=full trainer.max_epochs=997", 1, 1),  # the last epoch is looked at
        ("data.batch_size=full trainer.max_epochs=-1 trainer.max_steps=5000", 20, 20),
        ("data.batch_size=14 trainer.max_epochs=1000", 5, 5),  # four updates in each
        ("data.batch_size=1 trainer.max_epochs=1000", 1, 1),
        ("data.batch_size=full trainer.max_epochs=1000 trainer.check_val_every_n_epoch=1", 1, 1),
        ("data.batch_size=full trainer.max_epochs=1000 trainer.check_val_every_n_epoch=500", 500, 250),
        ("data.batch_size=1 trainer.max_epochs=8 trainer.check_val_every_n_epoch=4", 4, 1),
        ("data.batch_size=14 trainer.max_epochs=9 trainer.check_val_every_n_epoch=6", 6, 3),
        ("data.batch_size=14 trainer.max_epochs=1000 trainer.check_val_every_n_epoch=10 trainer.val_check_interval=2",
         10, 1),
        ("data=digits data.batch_size=full trainer.max_epochs=1000 data.augmentation.crop=1", 20, 1),
        ("data.batch_size=full trainer.max_epochs=1000 figures=every_epoch", 20, 1),  # which looks between validations
    ],
)  # fmt: skip
def test_short_epochs_are_looked_at_less_often(overrides, every, span, make_config):
    config = build.plain(make_config(*overrides.split()))
    data = build.data_module(config)
    assert (epochs_per_validation(config, data), data.span) == (every, span)


def test_short_epochs_give_the_same_weights_and_rows(launch, scalars):
    settings = (
        "data.batch_size=20",
        "model=mlp_dropout",
        "optimizer=adam",
        "trainer.max_epochs=24",
        "monitor=val/loss",
    )
    each, seldom = (
        launch(*settings, f"trainer.check_val_every_n_epoch={every}", "logger=tensorboard", folder=str(every))
        for every in (1, 8)
    )
    assert seldom.trainer.num_training_batches == 1  # of 24 updates, 3 in each epoch
    assert seldom.result["weights_digest"] == each.result["weights_digest"]
    ours, theirs = (read_history(run.folder / HISTORY).drop(columns=TIMES) for run in (seldom, each))
    assert ours["epoch"].tolist() == [8, 16, 24]
    assert ours.equals(theirs[theirs["epoch"].isin([8, 16, 24])].reset_index(drop=True))
    for name in ("train/loss", "val/acc"):
        assert [step for step, _ in scalars(seldom.folder)[name]] == [24, 48, 72]
    same = ("updates", "epochs", "samples_seen", "stop_reason")
    assert [seldom.result[key] for key in same] == [each.result[key] for key in same]


@pytest.mark.parametrize("group_size", [1, 5, 24])
def test_passes_may_be_cut_anywhere_in_a_span(group_size, launch):
    settings = ("data.batch_size=20", "trainer.max_epochs=16", "trainer.check_val_every_n_epoch=8")
    run = launch(*settings, f"steps_per_execution={group_size}")
    assert run.result["steps_per_execution"] == group_size
    whole = launch(*settings, folder="whole")
    rows = [read_history(one.folder / HISTORY).drop(columns=TIMES) for one in (run, whole)]
    assert rows[0].round(6).equals(rows[1].round(6))
    assert run.result["weights_digest"] == whole.result["weights_digest"]


def test_a_limit_of_updates_may_lie_within_a_span(launch):
    run = launch(
        "data.batch_size=20", "trainer.max_epochs=-1", "trainer.max_steps=31", "trainer.check_val_every_n_epoch=8"
    )
    rows = read_history(run.folder / HISTORY)
    assert rows["updates"].tolist() == [24, 31]
    assert (run.result["updates"], run.result["epochs"]) == (31, 10)
