"""Runs that cannot come to anything are stopped, and the reason is named."""

import json
import math

import pytest
import torch

from mlplab.callbacks.guards import Diverged, StopOnDivergence
from mlplab.errors import ConfigError, RunFailed

GUARD = "+callbacks.stop_on_divergence._target_=mlplab.callbacks.guards.StopOnDivergence"


class OtherDevice(torch.Tensor):
    """Losses as if they were on another device than the CPU."""

    device = torch.device("meta")


def give(guard, done, losses):
    trainer = type("Trainer", (), {"global_step": done + len(losses)})
    guard.on_train_batch_end(trainer, None, {"losses": losses}, None, 0)


def test_finite_losses_pass():
    guard = StopOnDivergence()
    give(guard, 0, torch.tensor([1e38, 0.0, -5.0]))
    guard.on_train_epoch_end(None, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_on_the_cpu_the_group_is_checked_at_once(bad):
    guard = StopOnDivergence()
    give(guard, 0, torch.tensor([1.0, 2.0]))
    with pytest.raises(Diverged, match="the loss of update 4 is not a finite number") as caught:
        give(guard, 2, torch.tensor([3.0, bad, bad]))
    assert isinstance(caught.value, RunFailed)


@pytest.mark.parametrize("when", ["on_validation_start", "on_train_epoch_end"])
def test_on_other_devices_losses_are_read_later(when, monkeypatch):
    guard = StopOnDivergence()
    for done, values in ((0, [1.0, 2.0]), (2, [3.0, math.inf]), (4, [math.nan])):
        give(guard, done, torch.tensor(values).as_subclass(OtherDevice))
    with pytest.raises(Diverged, match="update 4 "):
        getattr(guard, when)(None, None)


@pytest.mark.parametrize(
    ("override", "name", "message"),
    [
        ("monitor=val/accu", "ModelCheckpoint", "'val/accu', which is never logged; did you mean 'val/acc'?"),
        (
            "monitor=accuracy_of_the_moon",
            "ModelCheckpoint",
            "there are: gap/acc, gap/loss, train/acc, train/loss, val/",
        ),
        ("callbacks.early_stopping.monitor=val/los", "EarlyStopping", "did you mean 'val/loss'?"),
    ],
)
def test_a_monitor_that_nobody_logs_is_named_before_training(override, name, message, launch, tmp_path):
    with pytest.raises(ConfigError) as caught:
        launch("regularization=early_stopping", override)
    assert name in str(caught.value)
    assert message in str(caught.value)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["updates"]) == ("failed", 0)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.num_sanity_val_steps=0", "monitor=val/accu"],
        ["data.val_fraction=0", "monitor=train/los"],
    ],
    ids=" ".join,
)
def test_a_monitor_that_nobody_logs_is_named_without_a_validation_pass_before_training(overrides, launch):
    with pytest.raises(ConfigError, match="never logged; did you mean"):
        launch(*overrides)


@pytest.mark.parametrize("monitor", ["train/loss", "train/acc", "gap/loss", "gap/acc", "val/loss", "val/acc"])
def test_every_metric_of_an_epoch_can_be_monitored(monitor, launch):
    run = launch(f"monitor={monitor}")
    assert f"best/{monitor}" in run.metrics


def test_a_run_of_finite_losses_is_not_disturbed(launch, same_weights):
    guarded, plain = launch(GUARD, folder="guarded"), launch(folder="plain")
    assert same_weights(guarded.weights, plain.weights)
