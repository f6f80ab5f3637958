"""A run that is interrupted and continued equals the run that was not, to the bit."""

import os
import signal
from collections.abc import Callable
from unittest import mock

import pytest

from mlplab import training
from mlplab.checkpoints import read_checkpoint
from mlplab.classifier import Classifier
from mlplab.record import Record
from mlplab.signals import Stopped

TIMES = {"started", "finished", "fit_seconds", "test_evaluations", "digest", "config_digest"}
"""What two equal runs may differ in: times, and the config, which holds the run's own folder."""

SETTINGS = {
    "plain": (),
    "dropout, momentum, cosine": ("model=mlp_dropout", "optimizer=momentum", "scheduler=cosine"),
    "Adam, batch norm": (
        "model=mlp_sequential",
        "model.normalization=batch",
        "optimizer=adam",
        "model.dropout=0.2",
        "data.batch_size=8",
    ),
    "augmentation": ("data=digits", "data.train_size=60", "regularization=augmentation", "data.augmentation.flip=0"),
    "workers": ("model=mlp_dropout", "data.num_workers=2"),
    "plateau, early stopping": ("scheduler=plateau", "scheduler.patience=0", "regularization=early_stopping"),
    "validation within epochs": ("model=mlp_dropout", "trainer.val_check_interval=3"),
    "max_steps": ("model=mlp_dropout", "trainer.max_epochs=-1", "trainer.max_steps=33"),
    "one update at a time": ("model=mlp_dropout", "steps_per_execution=1", "data.val_fraction=0", "monitor=train/loss"),
}

COMMON = ("data.batch_size=5", "trainer.max_epochs=4", "steps_per_execution=3", "checkpoint.max_share=1")


def interrupted(at: int, how: Callable[[], None]) -> mock._patch:
    """Training, with `how` happening after the group of updates that reaches update `at`, once."""
    step, left = Classifier.training_step, [True]

    def training_step(self, batches, batch_idx):
        outputs = step(self, batches, batch_idx)
        if left and self.trainer.global_step >= at:
            left.clear()
            how()
        return outputs

    return mock.patch.object(Classifier, "training_step", training_step)


def crash() -> None:
    raise RuntimeError("the power is gone")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def facts(result: dict) -> dict:
    """A record without times."""
    return {key: value for key, value in result.items() if key not in TIMES}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("how", [crash, terminate])
def test_an_interrupted_run_ends_as_if_it_had_not_been(setting, how, launch_full, scalars, same_weights):
    overrides = (*COMMON, *SETTINGS[setting])
    whole = launch_full(*overrides, folder="whole")
    at = 2 * whole.result["updates_per_epoch"] + 5
    with interrupted(min(at, whole.result["updates"] - 3), how), pytest.raises((RuntimeError, Stopped)):
        launch_full(*overrides, folder="broken")
    broken = whole.folder.with_name("broken")
    training.resume(broken)
    states = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole.folder, broken)]
    assert same_weights(states[0]["state_dict"], states[1]["state_dict"])
    assert facts(Record.read(broken).values) == facts(whole.result)
    expected, found = scalars(whole.folder), scalars(broken)
    for noisy in ("grad/noise",):  # measured where the time allows
        expected.pop(noisy, None), found.pop(noisy, None)
    assert found == expected
