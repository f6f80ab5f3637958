"""Pruning: what a trial is told, and that it can stop the run."""

import pytest

from mlplab.callbacks.guards import Pruning
from mlplab.runs import train as training


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


def test_every_validation_is_reported_once(train_with):
    trial = Trial()
    callback, metrics = train_with(trial)
    assert [step for step, _ in trial.reported] == [1, 2, 3, 4]
    assert trial.reported[-1][1] == metrics["val/loss"]
    assert callback.stop_reason is None


@pytest.mark.parametrize(("interval", "updates"), [("1.0", 14), ("2", 4)])
def test_the_run_ends_at_the_validation_that_was_not_good_enough(interval, updates, train_with, tmp_path):
    trial = Trial(patience=2)
    callback, _ = train_with(trial, "data.batch_size=8", f"trainer.val_check_interval={interval}")
    assert len(trial.reported) == callback.validations == 2
    result = training.Record.read(tmp_path / "run").values
    assert (result["status"], result["updates"]) == ("finished", updates)
    assert result["stop_reason"] == f"pruned after 2 validations: val/loss {trial.reported[-1][1]:.4f}"
