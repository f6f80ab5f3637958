"""A run that is interrupted and continued equals the run that was not, to the bit."""

import os
import signal
from collections.abc import Callable
from unittest import mock

import pytest

from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint
from mlplab.models.classifier import Classifier
from mlplab.runs import resume as resuming
from mlplab.runs import train as training
from mlplab.runs.record import Record
from mlplab.signals import Stopped

TIMES = {"started", "finished", "fit_seconds", "test_evaluations", "digest", "config_digest"}
"""What two equal runs may differ in: times, and the config, which holds the run's own folder."""

SETTINGS = {
    "plain": (),
    "dropout, momentum, cosine": ("model=mlp_dropout", "optimizer=momentum", "scheduler=cosine"),
    "Adam, batch norm": (
        "model=mlp_sequential", "model.normalization=batch", "optimizer=adam", "model.dropout=0.2", "data.batch_size=8"
    ),
    "augmentation": (
        "data=digits", "data.train_size=60", "regularization=augmentation", "data.augmentation.flip=0",
        "data.augmentation.mixup=0.5",
    ),
    "workers": ("model=mlp_dropout", "data.num_workers=2"),
    "plateau, early stopping": ("scheduler=plateau", "scheduler.patience=0", "regularization=early_stopping"),
    "validation within epochs": ("model=mlp_dropout", "trainer.val_check_interval=7", "optimizer.lr=0.7"),
    "max_steps": ("model=mlp_dropout", "trainer.max_epochs=-1", "trainer.max_steps=33"),
    "short epochs": ("data.batch_size=20", "trainer.max_epochs=16", "trainer.check_val_every_n_epoch=8"),
    "one update at a time": ("model=mlp_dropout", "steps_per_execution=1", "data.val_fraction=0", "monitor=train/loss"),
    "stops not before min_epochs": (
        "regularization=early_stopping", "+callbacks.early_stopping.stopping_threshold=0.65", "+trainer.min_epochs=3",
        "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=9",
    ),
    "no validation": (
        "data.val_fraction=0", "monitor=train/loss", "monitor_mode=min", "scheduler=plateau", "scheduler.patience=0",
        "regularization=early_stopping", "callbacks.early_stopping.monitor=train/loss", "optimizer.lr=5",
        "callbacks.early_stopping.patience=2", "trainer.val_check_interval=0.5",
    ),
}  # fmt: skip

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
    """A record without times, and without the commit: the code may be worked on meanwhile."""
    return {key: value for key, value in result.items() if key not in {*TIMES, "git_commit"}}


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(setting, launch_full, scalars, same_weights):
    overrides = (*COMMON, *SETTINGS[setting])
    whole = launch_full(*overrides, folder="whole")
    at = min(2 * whole.result["updates_per_epoch"] + 5, whole.result["updates"] - 3)
    for how in (crash, terminate):
        broken = whole.folder.with_name(how.__name__)
        with interrupted(at, how), pytest.raises((RuntimeError, Stopped)):
            launch_full(*overrides, folder=broken.name)
        training.resume(broken)
        states = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole.folder, broken)]
        assert same_weights(states[0]["state_dict"], states[1]["state_dict"])
        assert facts(Record.read(broken).values) == facts(whole.result)
        expected, found = scalars(whole.folder), scalars(broken)
        assert found | {"grad/noise": None} == expected | {"grad/noise": None}  # measured where the time allows


def test_a_damaged_checkpoint_is_named_and_the_newest_good_one_offered(launch):
    folder = launch().folder
    record = Record.read(folder)
    record.update(status="stopped")
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"last\.ckpt is damaged.* the newest good one with resume=.*best\.ckpt"):
        training.resume(folder)
    training.resume(folder / "checkpoints" / "best.ckpt")
    assert Record.read(folder).values["status"] == "finished"


def test_a_finished_run_is_left_as_it_is(launch):
    run = launch()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert training.resume(run.folder) == run.metrics
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_run_killed_before_its_first_checkpoint_starts_again(launch, same_weights):
    whole = launch(folder="whole")
    with interrupted(1, crash), pytest.raises(RuntimeError):
        launch("checkpoint.every_n_epochs=null", folder="broken")
    broken = whole.folder.with_name("broken")
    assert not (broken / "checkpoints" / "last.ckpt").exists()
    training.resume(broken)
    assert Record.read(broken).values["weights_digest"] == whole.result["weights_digest"]


def test_a_run_folder_may_be_moved(launch):
    whole = launch(*COMMON, folder="whole")
    with interrupted(20, terminate), pytest.raises(Stopped):
        launch(*COMMON, folder="broken")
    moved = whole.folder.with_name("moved")
    whole.folder.with_name("broken").rename(moved)
    training.resume(moved)
    assert facts(Record.read(moved).values) == facts(whole.result)
    assert not whole.folder.with_name("broken").exists()


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("callbacks.early_stopping.patience=0",),  # which has not stopped it
        ("+trainer.min_epochs=5", "+callbacks.early_stopping.stopping_threshold=9"),  # which may not stop it yet
        # The validation at its end, where none is due, counts neither for the plateau nor for the patience.
        ("trainer.check_val_every_n_epoch=3", "callbacks.early_stopping.patience=1", "optimizer.lr=0.001",
         "scheduler=plateau", "scheduler.patience=0", "callbacks.early_stopping.min_delta=0.01"),
    ],
    ids=str,
)  # fmt: skip
def test_a_longer_run_equals_one_that_was_that_long_from_the_start(settings, launch):
    settings = ("regularization=early_stopping", *settings)
    longer = launch("trainer.max_epochs=5", *settings, folder="long")
    shorter = launch("trainer.max_epochs=2", *settings, folder="short")
    assert shorter.result["stop_reason"] == "trainer.max_epochs=2 reached"
    training.resume(shorter.folder, overrides=["trainer.max_epochs=5"])
    result = Record.read(shorter.folder).values
    for fact in ("weights_digest", "metrics", "stop_reason", "best_epoch", "measured_after"):
        assert result[fact] == longer.result[fact], fact
    assert "trainer.max_epochs=5" in result["overrides"]
    assert Record.read(shorter.folder).config().trainer.max_epochs == 5


@pytest.mark.parametrize("validates", [True, False])
def test_a_plateau_does_not_count_the_end_of_a_run_amid_an_epoch(validates, launch):
    monitor = () if validates else ("data.val_fraction=0", "monitor=train/loss", "monitor_mode=min")
    settings = (
        *monitor, "data.batch_size=5", "scheduler=plateau", "scheduler.patience=0", "trainer.max_epochs=-1",
        "steps_per_execution=auto", "optimizer.lr=0.7",
    )  # fmt: skip
    longer = launch("trainer.max_steps=90", *settings, folder="long")
    for steps in (5, 26):
        shorter = launch(f"trainer.max_steps={steps}", *settings, folder=f"short {steps}")
        training.resume(shorter.folder, overrides=["trainer.max_steps=90"])
        assert Record.read(shorter.folder).values["weights_digest"] == longer.result["weights_digest"]


# What may be asked of a run that continues


@pytest.fixture
def asked(launch) -> Callable[..., dict]:
    folder = launch("trainer.max_epochs=3").folder
    return lambda *overrides: resuming.continued_config(folder, overrides)[1]


def test_what_leaves_the_numbers_alone_may_be_changed(asked):
    assert asked("data.num_workers=2", "trainer.max_epochs=9") == {"data.num_workers": 2, "trainer.max_epochs": 9}
    assert asked() == asked("resume=here", "hydra.run.dir=there", "trainer.num_sanity_val_steps=1") == {}
    assert asked("model=mlp", "optimizer.lr=0.1", "trainer.max_epochs=3") == {}


def test_what_changes_the_numbers_is_listed_and_a_run_does_not_become_shorter(asked):
    with pytest.raises(ConfigError) as caught:
        asked("optimizer.lr=0.5", "seed=3", "data.batch_size=7", "data.num_workers=1", "trainer.max_epochs=1")
    said = ("trainer.max_epochs=1: this run has 3, and can only become longer", "seed: this run has 0",
            "optimizer.lr: this run has 0.1, not 0.5", "data.batch_size")  # fmt: skip
    assert len(caught.value.faults) == len(said)
    assert all(any(fault.startswith(part) for fault in caught.value.faults) for part in said)
    with pytest.raises(ConfigError, match=r"trainer\.max_steps=100: this run has -1, and can only become longer"):
        asked("trainer.max_steps=100")
    assert asked("trainer.max_epochs=-1") == {"trainer.max_epochs": -1}
