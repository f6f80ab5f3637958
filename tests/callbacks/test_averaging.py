"""The average of the weights against a formula written out here; it is what is validated, saved, tested, resumed."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint, write_checkpoint
from mlplab.report.frames import read_history
from mlplab.runs import train as training
from mlplab.runs.evaluate import load_run
from mlplab.runs.record import Record
from mlplab.signals import Stopped

COMMON = (
    "model=mlp_sequential", "model.normalization=batch", "model.dropout=0.2", "optimizer=adam", "data.batch_size=8",
    "trainer.max_epochs=4", "steps_per_execution=3",
)  # fmt: skip
AVERAGED = (*COMMON, "regularization=weight_averaging", "callbacks.weight_averaging.every_n_updates=2")


@pytest.fixture(scope="module")
def runs(launch_in, tmp_path_factory):
    """The same run without an average, with one, and with one update in each pass."""
    folder, bare = tmp_path_factory.mktemp("runs"), ("callbacks=study_fit", "logger=none")
    settings = {"plain": COMMON, "averaged": AVERAGED, "one by one": (*AVERAGED, "steps_per_execution=1")}
    return {name: launch_in(folder / name, (*bare, *overrides)) for name, overrides in settings.items()}


def last(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def of_network(state):
    return {name: values for name, values in state.items() if name.startswith("network.")}


def test_the_average_is_that_of_the_formula(make_config):
    seen = []

    class Keep(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append({name: values.clone().double() for name, values in pl_module.network.state_dict().items()})

    config = make_config(*AVERAGED, "steps_per_execution=1", "callbacks.weight_averaging.decay=0.6", "test=false")
    training.train(config, callbacks=[Keep()])
    average = seen[0]
    for times, weights in enumerate(seen[2::2], start=1):
        kept = min(0.6, (1 + times) / (10 + times))
        average = {name: kept * average[name] + (1 - kept) * weights[name] for name in average}
    found = last(Path(config.folder))["state_dict"]
    for name, values in average.items():
        if values.ndim:  # not the number of batches that a normalization has seen
            torch.testing.assert_close(found[f"network.{name}"].double(), values, rtol=1e-5, atol=1e-6)


def test_training_goes_on_with_the_weights_themselves(runs, same_weights):
    plain, averaged = (last(runs[name].folder) for name in ("plain", "averaged"))
    assert same_weights(of_network(plain["state_dict"]), of_network(averaged["current_model_state"]))
    assert not same_weights(of_network(plain["state_dict"]), of_network(averaged["state_dict"]))
    for name in ("train/loss", "train/acc"):
        assert runs["plain"].metrics[name] == runs["averaged"].metrics[name]


def test_the_average_does_not_depend_on_how_many_updates_share_a_pass(runs):
    ours, theirs = (runs[name].result for name in ("averaged", "one by one"))
    assert ours["weights_digest"] == theirs["weights_digest"]
    assert ours["metrics"] == theirs["metrics"]


def test_updates_are_not_compiled_and_that_is_said(runs, launch, caplog):
    run = launch(*AVERAGED, "compile=true")
    assert run.result["weights_digest"] == runs["averaged"].result["weights_digest"]
    assert "Adam with an average of the weights is computed eagerly" in caplog.text


def test_what_is_validated_saved_and_tested_is_the_average(runs):
    folder, metrics = runs["averaged"].folder, runs["averaged"].result["metrics"]
    fitted = read_history(folder / "history.csv")["fitted/acc"].iloc[-1]  # which callbacks have measured
    known = {"best": {"val": metrics["best/val/acc"], "test": metrics["test/acc"]},
             "last": {"val": metrics["val/acc"], "train": fitted}}  # fmt: skip
    for checkpoint, scores in known.items():
        model, data, *_ = load_run(folder, checkpoint=checkpoint)
        for split, score in scores.items():
            features, labels = data.datasets[split].features, data.datasets[split].labels
            chosen = data.datasets[split].indices
            with torch.no_grad():
                logits = model.network(data.preprocess(features[chosen]))[:, 0]
            assert ((logits > 0) == labels[chosen]).float().mean().item() == pytest.approx(score)


# Exact resume


class StopAfter(Callback):
    """Stop as a signal does, once so many updates have been made."""

    def __init__(self, updates):
        self.updates = updates

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step >= self.updates:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("updates", [1, 9, 14, 26], ids="after {} updates".format)
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(updates, runs, make_config, same_weights):
    config = make_config("callbacks=study_fit", "logger=none", *AVERAGED)
    with pytest.raises(Stopped):
        training.train(config, callbacks=[StopAfter(updates)])
    training.resume(config.folder)
    whole, broken = last(runs["averaged"].folder), last(Path(config.folder))
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert same_weights(whole[part], broken[part]), part
    ours, theirs = Record.read(Path(config.folder)).values, runs["averaged"].result
    for fact in ("weights_digest", "metrics", "best_epoch"):
        assert ours[fact] == theirs[fact], fact


def test_a_longer_run_equals_one_that_was_that_long_from_the_start(launch, same_weights):
    longer, shorter = (launch(*AVERAGED, f"trainer.max_epochs={epochs}", folder=f"{epochs}") for epochs in (5, 2))
    training.resume(shorter.folder, overrides=["trainer.max_epochs=5"])
    for part in ("state_dict", "current_model_state"):
        assert same_weights(last(longer.folder)[part], last(shorter.folder)[part])


# Bad input


def test_a_checkpoint_without_an_average_is_refused(launch):
    run = launch(*AVERAGED)
    Record.read(run.folder).update(status="stopped")
    content = last(run.folder)
    del content["current_model_state"]
    write_checkpoint(content, run.folder / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match="has no average of the weights"):
        training.resume(run.folder)


@pytest.mark.parametrize(
    ("had", "asked"),
    [
        (AVERAGED, "optimizer=sgd"),
        (AVERAGED, "callbacks.weight_averaging.decay=0.5"),
        (COMMON, "regularization=weight_averaging"),
    ],
)
def test_a_run_that_continues_keeps_its_optimizer_and_its_average(had, asked, launch):
    run = launch(*had, overrides=had)
    with pytest.raises(ConfigError, match="start a new run to change it"):
        training.resume(run.folder, overrides=[asked, "trainer.max_epochs=9"])


def test_after_training_the_network_holds_the_average(launch, same_weights):
    run = launch(*AVERAGED)
    average = of_network(last(run.folder)["state_dict"])
    assert same_weights({f"network.{name}": values for name, values in run.weights.items()}, average)


def test_a_run_with_nothing_left_to_train_ends_with_the_average(launch):
    run = launch(*AVERAGED)
    digest = run.result["weights_digest"]
    Record.read(run.folder).update(status="stopped", weights_digest=None)
    training.resume(run.folder)
    assert Record.read(run.folder).values["weights_digest"] == digest
