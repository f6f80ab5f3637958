"""Whole runs, from config to run folder: what was counted, logged, kept and refused."""

import itertools
import json
import math
import os
import re
import signal
import subprocess
import warnings
from importlib.metadata import version
from unittest import mock

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from omegaconf import OmegaConf

from mlplab.callbacks.base import measured
from mlplab.callbacks.guards import Diverged
from mlplab.errors import ConfigError, RunFailed
from mlplab.files import read_checkpoint
from mlplab.models.classifier import Classifier
from mlplab.models.schedules import Plateau
from mlplab.runs import build
from mlplab.runs.train import resume

LOGGED = {
    "train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc", "gap/loss", "gap/acc",
    "lr", "weights/l2_norm", "grad/norm", "grad/noise", "batch/loss", "best/val/acc",
}  # fmt: skip
EARLY_STOPPING = ("regularization=early_stopping", "callbacks.early_stopping.min_delta=1.0")  # nothing is better by 1


GROUPED = pytest.mark.parametrize("group_size", ["1", "auto"])


def steps(values):
    return [step for step, _ in values]


def read_result(folder):
    return json.loads((folder / "result.json").read_text())


# Counting


@GROUPED
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [  # updates, epochs, samples seen, updates per epoch, batch size
        (["batching=full_batch"], (2, 2, 112, 1, 56)),
        (["data.batch_size=5"], (24, 2, 112, 12, 5)),
        (["batching=stochastic"], (112, 2, 112, 56, 1)),
        (["data.batch_size=5", "trainer.max_steps=17"], (17, 1, 81, 12, 5)),
        (["data.batch_size=5", "trainer.max_steps=24"], (24, 2, 112, 12, 5)),
        (["data.batch_size=5", "trainer.max_steps=3", "trainer.max_epochs=-1"], (3, 0, 15, 12, 5)),
        (["data.batch_size=5", "trainer.limit_train_batches=7"], (14, 2, 70, 7, 5)),
        (["data.batch_size=5", "trainer.limit_train_batches=0.5"], (12, 2, 60, 6, 5)),
        (["data.batch_size=5", "data.train_size=11"], (6, 2, 22, 3, 5)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_updates_are_counted_as_updates(group_size, overrides, expected, launch):
    run = launch(*overrides, f"steps_per_execution={group_size}")
    keys = ("updates", "epochs", "samples_seen", "updates_per_epoch", "batch_size")
    assert tuple(run.result[key] for key in keys) == expected
    assert run.trainer.global_step == expected[0]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["trainer.val_check_interval=4"], [4, 8, 12, 16, 20, 24]),
        (["trainer.val_check_interval=0.5"], [6, 12, 18, 24]),
        (["trainer.val_check_interval=5"], [5, 10, 17, 22, 24]),  # and the last state
        (["trainer.max_steps=17"], [12, 17]),  # the last update, also within an epoch
    ],
)
@GROUPED
def test_validation_comes_after_exactly_so_many_updates(overrides, expected, group_size, launch, scalars):
    run = launch("data.batch_size=5", *overrides, f"steps_per_execution={group_size}", "logger=tensorboard")
    assert steps(scalars(run.folder)["val/loss"]) == expected


@GROUPED
def test_early_stopping_within_an_epoch_does_not_depend_on_the_grouping(group_size, launch):
    run = launch(
        *EARLY_STOPPING, "callbacks.early_stopping.patience=1", "data.batch_size=5",
        "++trainer.val_check_interval=4", f"steps_per_execution={group_size}",
    )  # fmt: skip
    assert run.result["updates"] == 8
    assert run.result["stop_reason"].startswith("early stopping")


@pytest.mark.parametrize(
    ("end", "updates"),
    [
        ("trainer.check_val_every_n_epoch=3", 24),
        ("trainer.val_check_interval=7", 24),
        ("trainer.check_val_every_n_epoch=9 trainer.max_steps=17", 17),
        ("trainer.check_val_every_n_epoch=9 +trainer.min_epochs=2", 24),
        ("++trainer.max_time=00:00:00:05 trainer.check_val_every_n_epoch=7 trainer.max_epochs=9", None),
        # What asks for the end does so after the 12th update; it comes in the midst of the next epoch.
        ("regularization=early_stopping +callbacks.early_stopping.stopping_threshold=9 +trainer.min_steps=18", 18),
    ],
)
@GROUPED
def test_the_last_state_is_validated_and_each_number_is_of_its_moment(end, updates, group_size, launch, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(Timer, "time_elapsed", lambda *_: next(clock))
    run = launch("data.batch_size=5", f"steps_per_execution={group_size}", *end.split())
    updates, row, metrics = updates or run.result["updates"], measured(run.trainer).history[-1], run.metrics
    assert run.result["updates"] == row["updates"] == updates > 0
    assert run.result["measured_after"] == {"train": updates, "val": updates, "gap": updates}
    assert metrics.items() >= {name: row[name] for name in ("train/loss", "val/loss", "gap/loss")}.items()
    assert metrics["gap/loss"] == pytest.approx(metrics["train/loss"] - metrics["val/loss"], abs=1e-7)
    often = ("trainer.val_check_interval=1", f"trainer.max_steps={updates}", "trainer.max_epochs=9")
    expected = launch("data.batch_size=5", *often, folder="often").metrics
    for name in ("train/loss", "train/acc", "val/loss", "val/acc"):
        assert metrics[name] == pytest.approx(expected[name], abs=1e-6), name


# Seeds


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(launch, same_weights):
    zero, again, one = (
        launch("model=mlp_dropout", f"seed={seed}", folder=name) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert same_weights(zero.weights, again.weights)
    assert zero.metrics == again.metrics
    assert not same_weights(zero.weights, one.weights)
    assert (zero.result["seed"], one.result["seed"]) == (0, 1)


def test_no_seed_draws_one_that_repeats_the_run(launch, same_weights):
    drawn, other = launch("seed=null", folder="drawn"), launch("seed=null", folder="other")
    seed = drawn.result["seed"]
    assert seed == OmegaConf.load(drawn.folder / "config.yaml").seed != other.result["seed"]
    assert not same_weights(drawn.weights, other.weights)
    assert same_weights(drawn.weights, launch(f"seed={seed}", folder="again").weights)


# The run folder


def test_a_finished_run_folder_holds_what_the_documentation_promises(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {"config.yaml", "result.json", "checkpoints", "tensorboard", "figures"}
    assert {path.name for path in (finished.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    result = finished.result
    assert result.items() >= {
        "status": "finished", "error": None, "stop_reason": "trainer.max_epochs=4 reached",
        "best_checkpoint": "checkpoints/best.ckpt", "samples": {"train": 56, "val": 12, "test": 12},
        "parameters": (2 * 16 + 16) + (16 * 8 + 8) + (8 + 1), "metrics": finished.metrics,
    }.items()  # fmt: skip
    assert result["fit_seconds"] > 0
    assert result["versions"]["torch"] == version("torch")
    assert set(finished.metrics) == LOGGED - {"lr", "weights/l2_norm", "grad/norm", "grad/noise", "batch/loss"}
    stored = OmegaConf.to_container(OmegaConf.load(finished.folder / "config.yaml"), resolve=False)
    assert stored == OmegaConf.to_container(finished.config, resolve=True)


def test_every_metric_is_logged_once_a_step_and_finite(finished, scalars):
    logged = scalars(finished.folder)
    of_layers = {name for name in logged if name.startswith(("weight_norm/", "update_to_weight/", "dead_relus/"))}
    assert set(logged) - of_layers == LOGGED
    for name, values in logged.items():
        assert steps(values) == sorted(set(steps(values))), name
        assert all(math.isfinite(value) for _, value in values), name
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "gap/loss", "gap/acc"):
        assert steps(logged[name]) == [4, 8, 12, 16], name
        assert logged[name][-1][1] == pytest.approx(finished.metrics[name])
    for name in ("loss", "acc"):
        gap = finished.metrics[f"train/{name}"] - finished.metrics[f"val/{name}"]
        assert finished.metrics[f"gap/{name}"] == pytest.approx(gap, abs=1e-6)
    for name in ("test/loss", "test/acc", "best/val/acc"):
        assert logged[name] == [(16, pytest.approx(finished.metrics[name]))]


# The best checkpoint and the test set


@pytest.mark.parametrize(
    ("settings", "monitor", "loss"),
    [
        ("data.batch_size=4", "val/acc", "val/loss"),
        ("data.batch_size=4 trainer.val_check_interval=3", "val/acc", "val/loss"),
        ("data.batch_size=8 trainer.check_val_every_n_epoch=3", "train/acc", "val/loss"),
        ("monitor_mode=min", "val/loss", "val/loss"),
        ("data.val_fraction=0 trainer.check_val_every_n_epoch=2", "train/acc", "train/loss"),
    ],
)
def test_the_best_checkpoint_has_the_lowest_loss_of_the_best_and_is_tested(settings, monitor, loss, launch, capsys):
    run = launch(*settings.split(), f"monitor={monitor}", "trainer.max_epochs=8", "optimizer.lr=0.9", "test=true")
    history, sign = measured(run.trainer).history, -1 if "monitor_mode" in settings else 1
    rows = [row for row in history if row[loss] is not None]
    row = max(rows, key=lambda row: (sign * row[monitor], -row[loss]))
    assert rows[0]["updates"] < row["updates"]  # so that the test can fail
    best, last = (read_checkpoint(run.folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    assert (best["global_step"], last["global_step"]) == (row["updates"], run.result["updates"])
    assert run.metrics[f"best/{monitor}"] == pytest.approx(row[monitor])
    assert run.result["best_epoch"] == row["epoch"]
    assert re.search(rf"test \(best checkpoint\) +│ +{row['epoch']:.4g} │", capsys.readouterr().out)
    tested = {f"network.{name}": value for name, value in run.weights.items()}
    assert all(torch.equal(best["state_dict"][name], value) for name, value in tested.items())


def test_without_a_best_checkpoint_the_last_is_tested_and_named(launch, capsys):
    run = launch("callbacks.checkpoint.save_top_k=0", "test=true")
    assert run.result["best_checkpoint"] is run.result["best_epoch"] is None
    assert re.search(r"test \(last checkpoint\) +│ +2 │", capsys.readouterr().out)


def test_the_test_set_is_looked_at_once_and_only_where_it_is_asked_for_and_there_is_one(launch):
    with mock.patch.object(Classifier, "test_step", autospec=True, side_effect=Classifier.test_step) as step:
        tested = launch("test=true", folder="once")
        assert [sum(len(batch.labels) for batch in call.args[1]) for call in step.call_args_list] == [12]
        others = [launch("test=false", folder="never"), launch("data.test_fraction=0", "test=true", folder="none")]
    assert step.call_count == len(tested.result["test_evaluations"]) == 1
    for run in others:
        assert run.result["test_evaluations"] == []
        assert not [name for name in run.metrics if name.startswith("test/")]


def test_a_run_without_validation_samples_finishes(launch):
    run = launch("data.val_fraction=0", "monitor=train/loss", "monitor_mode=min")
    assert run.result["status"] == "finished"
    assert set(run.metrics) == {"train/loss", "train/acc", "best/train/loss"}


# How a run ends


@pytest.mark.parametrize(
    ("options", "epochs", "reason"),
    [  # with min_delta=1 the first validation is the best
        ({"patience": 2}, 3, "no better val/loss in 2 validations"),
        ({"patience": 0}, 2, "no better val/loss in 1 validation"),
        ({"patience": 1, "min": 7}, 7, "no better val/loss in 6 validations"),
        ({"patience": 1, "monitor": "train/loss", "every": 2}, 4, "no better train/loss in 1 validation"),
        ({"patience": 1, "monitor": "train/loss", "every": 2, "val": 0}, 2, "no better train/loss in 1 epoch"),
        ({"patience": 0, "min_delta": 0}, 9, None),
        ({"+stopping_threshold": 9}, 1, "val/loss has reached 9"),
        ({"+divergence_threshold": 0.1, "min": 3}, 3, "val/loss is worse than 0.1"),
    ],
    ids=str,
)
def test_early_stopping_is_the_reason_where_it_has_ended_the_run(options, epochs, reason, launch):
    trainer = {"every": "trainer.check_val_every_n_epoch", "min": "+trainer.min_epochs", "val": "data.val_fraction"}
    keys = {name: trainer.get(name) or "callbacks.early_stopping.".join(re.match(r"(\+?)(.*)", name).groups())
            for name in options}  # fmt: skip
    settings = [f"{keys[name]}={value}" for name, value in options.items()]
    settings += ["monitor=train/loss", "monitor_mode=min"] if "val" in options else []
    run = launch(*EARLY_STOPPING, "trainer.max_epochs=9", *settings)
    assert (run.result["status"], run.result["epochs"]) == ("finished", epochs)
    said = f"early stopping after epoch {epochs}: {reason}" if reason else "trainer.max_epochs=9 reached"
    assert run.result["stop_reason"] == said
    assert (run.folder / "checkpoints" / "best.ckpt").exists()
    if reason:
        with pytest.raises(ConfigError, match="ended by early stopping"):
            resume(run.folder, overrides=["trainer.max_epochs=12"])


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("trainer.max_steps=3", "trainer.max_steps=3 reached"),
     ("++trainer.max_time=00:00:00:00", "trainer.max_time reached")],
)  # fmt: skip
def test_a_limit_is_the_reason_where_it_is(limit, reason, launch):
    run = launch(limit, "trainer.max_epochs=500")
    assert run.result["epochs"] < 500
    assert run.result["stop_reason"] == reason


@pytest.mark.parametrize("moment", ["trainer.check_val_every_n_epoch=1", "trainer.check_val_every_n_epoch=2"])
def test_a_plateau_of_the_training_loss_lowers_the_rate_without_validation(moment, launch):
    monitored = ("data.val_fraction=0", "monitor=train/loss", "monitor_mode=min")
    run = launch(*monitored, moment, "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=5",
                 "data.batch_size=8", "trainer.max_epochs=8")  # fmt: skip
    rows, plateau = measured(run.trainer).history, Plateau(patience=0, mode="min")
    for row in rows:
        assert row["lr"] == pytest.approx(5 * plateau.factor)
        plateau.observe(row["train/loss"])
    assert rows[-1]["lr"] < 5


@GROUPED
def test_divergence_ends_the_run_and_names_the_first_such_update(group_size, launch, tmp_path, monkeypatch):
    losses = []
    forward = torch.nn.functional.binary_cross_entropy_with_logits

    def noting(*arguments, **options):
        losses.append(forward(*arguments, **options))
        return losses[-1]

    monkeypatch.setattr("mlplab.models.losses.F.binary_cross_entropy_with_logits", noting)
    with pytest.raises(Diverged, match=r"the loss of update (\d+) is not a finite number") as caught:
        launch(
            "+callbacks.stop_on_divergence._target_=mlplab.callbacks.guards.StopOnDivergence", "optimizer.lr=1e12",
            "data.batch_size=5", f"steps_per_execution={group_size}",
        )  # fmt: skip
    first = next(index for index, loss in enumerate(losses) if not loss.isfinite())  # one is computed before training
    assert 2 < first < 12  # so that it is not the first update of a group, nor the last
    assert f"update {first} " in str(caught.value)
    assert isinstance(caught.value, RunFailed)
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged"
    assert f"update {first} " in result["error"]


@pytest.mark.parametrize(
    ("hook", "raised", "updates", "status", "said"),
    [
        ("on_train_epoch_end", RuntimeError("out of coffee"), 2, "failed", "RuntimeError: out of coffee ("),
        ("on_train_epoch_end", KeyboardInterrupt(), 2, "stopped", ""),
        ("on_test_epoch_end", RuntimeError("out of coffee"), 4, "failed", "in the test: RuntimeError: out of coffee ("),
    ],
)
def test_a_run_that_ends_before_its_time_says_so_in_its_folder(
    hook, raised, updates, status, said, launch, tmp_path, monkeypatch
):
    monkeypatch.setattr(Classifier, hook, mock.Mock(side_effect=raised))
    with pytest.raises((RuntimeError, KeyboardInterrupt, SystemExit)):
        launch("test=true")
    result = read_result(tmp_path / "run")
    assert (result["status"], result["updates"], result["test_evaluations"]) == (status, updates, [])
    assert result["error"].startswith(said)


# What it is for


def test_the_perceptron_separates_what_can_be_separated(launch):
    run = launch("model=perceptron", "data.batch_size=1", "trainer.max_epochs=20")
    assert run.metrics["train/acc"] == 1.0
    assert run.metrics["train/loss"] == 0.0


@pytest.mark.parametrize("data_set", ["moons", "spirals"])
def test_a_network_learns_what_a_line_cannot(data_set, launch):
    settings = (f"data={data_set}", "optimizer=adam", "optimizer.lr=0.02", "trainer.max_epochs=20")
    linear = launch(*settings, "model=softmax_regression", folder="linear")
    network = launch(*settings, "model.hidden_sizes=[32,32]", folder="network")
    assert network.metrics["val/acc"] > 0.9
    assert network.metrics["val/acc"] > linear.metrics["val/acc"] + 0.05


def test_threads_are_those_asked_for_and_one_for_short_updates(launch, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(build, "THREADS", 3)
    large = "model.hidden_sizes=[3000,3000]"  # with 32 samples; one sample is a short update of the same network
    try:
        for asked, given in (
            (["threads=2"], 2), (["threads=auto"], 1), ([large], 3), ([large, "data.batch_size=1"], 1),
        ):  # fmt: skip
            launch(*asked, "trainer.max_steps=2", folder="_".join(asked))
            assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)


def test_advice_of_lightning_that_does_not_apply_is_not_shown():
    advice = (
        "The `srun` command is available on your system but is not used. HINT: …",
        "You passed `Trainer(accelerator='cpu', precision='16-mixed')` but AMP with fp16 is not supported on CPU.",
        "Total length of `list` across ranks is zero. Please make sure this was your intention.",
    )
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        build.quiet_libraries()
        for message in (*advice, "another"):
            warnings.warn(message, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["another"]


# Two processes


def start_together(start, folder, *overrides):
    """`train.py` in two processes; a hang takes both along."""
    process = start("train.py", "trainer=ddp_cpu", "data.num_samples=80", *overrides, folder=folder)
    try:
        printed, _ = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, printed


@pytest.mark.parametrize(
    ("train_size", "batch_size"),
    [
        (55, 3),  # shares of 2 and 1; of the last batch 1 and none
        pytest.param(20, 1, marks=pytest.mark.slow),  # the second process never has a sample
    ],
)
def test_two_processes_give_the_weights_of_one_and_as_many_files(train_size, batch_size, launch_full, start, tmp_path):
    sizes = f"data.batch_size={batch_size}", f"data.train_size={train_size}"
    settings = [*sizes, "trainer.max_epochs=2", "figures=none"]
    alone = launch_full(*settings, folder="alone")
    start_together(start, tmp_path, *settings, f"hydra.run.dir={tmp_path / 'two'}")
    ours, theirs = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("two", "alone")
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    result = read_result(tmp_path / "two")
    assert result["updates"] == alone.result["updates"]
    assert result["samples_seen"] == 2 * train_size
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc"):
        assert result["metrics"][name] == pytest.approx(alone.metrics[name], abs=1e-5), name
    assert result["status"] == "finished"
    assert result["measured_after"] == alone.result["measured_after"]
    for name in ("tensorboard/events*", "history.csv", "checkpoints/*"):
        assert len(list((tmp_path / "two").glob(name))) == len(list(alone.folder.glob(name))), name
