"""Runs that cannot come to anything, or that a search gives up, are stopped, and the reason is named."""

import math

import pytest
import torch

from mlplab.callbacks.guards import Diverged, Pruning, StopOnDivergence
from mlplab.runs import train as training


class OtherDevice(torch.Tensor):
    """Losses as if they were on another device than the CPU."""

    device = torch.device("meta")


def give(guard, done, losses):
    trainer = type("Trainer", (), {"global_step": done + len(losses)})
    guard.on_train_batch_end(trainer, None, {"losses": losses}, None, 0)


@pytest.mark.parametrize("when", ["on_validation_start", "on_train_epoch_end", "on_save_checkpoint"])
def test_on_other_devices_losses_are_read_later(when):
    guard = StopOnDivergence()
    for done, values in ((0, [1.0, 2.0]), (2, [3.0, math.inf]), (4, [math.nan])):
        give(guard, done, torch.tensor(values).as_subclass(OtherDevice))
    with pytest.raises(Diverged, match="update 4 "):
        getattr(guard, when)(None, None)


@pytest.mark.parametrize("monitor", ["train/loss", "train/acc", "gap/loss", "gap/acc", "val/loss", "val/acc"])
def test_every_metric_of_an_epoch_can_be_monitored(monitor, launch):
    run = launch(f"monitor={monitor}")
    assert f"best/{monitor}" in run.metrics


# Pruning


class Trial:
    """Notes what is reported, and gives up after `patience` reports."""

    def __init__(self, patience=1000):
        self.patience, self.reported = patience, []

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return len(self.reported) >= self.patience


@pytest.fixture
def train_with(make_config):
    def run(trial, *overrides):
        config = make_config("callbacks=none", "logger=none", "test=false", "trainer.max_epochs=4", *overrides)
        callback = Pruning(trial, monitor="val/loss")
        return callback, training.train(config, callbacks=[callback])

    return run


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("trainer.check_val_every_n_epoch=1", [1, 2, 3, 4]),
        ("trainer.check_val_every_n_epoch=2", [2, 4]),
        ("trainer.val_check_interval=4", [1, 2, 3, 4, 5]),  # of 7 updates; the last is at the end
    ],
)
def test_trials_are_compared_after_as_many_epochs_however_often_they_are_validated(override, steps, train_with):
    trial = Trial()
    train_with(trial, "data.batch_size=8", override)
    assert [step for step, _ in trial.reported] == steps


@pytest.mark.parametrize(("interval", "updates"), [("1.0", 14), ("2", 4)])
def test_the_run_ends_at_the_validation_that_was_not_good_enough(interval, updates, train_with, tmp_path):
    trial = Trial(patience=2)
    callback, _ = train_with(trial, "data.batch_size=8", f"trainer.val_check_interval={interval}")
    assert len(trial.reported) == callback.validations == 2
    result = training.Record.read(tmp_path / "run").values
    assert (result["status"], result["updates"]) == ("finished", updates)
    assert result["stop_reason"] == f"pruned after 2 validations: val/loss {trial.reported[-1][1]:.4f}"
