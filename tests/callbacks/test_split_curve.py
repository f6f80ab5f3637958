"""Curves of the test and training split: equal to what evaluation says, counted, and without effect on training."""

import csv

import pytest
import torch

from mlplab.callbacks.measure import SplitCurve
from mlplab.errors import ConfigError


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, launch_in):
    """The same job with no curve, with that of the test set, and with that of the training set."""
    folder = tmp_path_factory.mktemp("curves")
    common = (
        "logger=none",
        "trainer.enable_progress_bar=false",
        "model=mlp_dropout",
        "data.batch_size=14",
        "trainer.max_epochs=3",
    )
    return {
        name: launch_in(folder / name, (f"callbacks={name}", *common)) for name in ("study", "study_fit", "study_test")
    }


@pytest.mark.parametrize("name", ["study_fit", "study_test"])
def test_training_is_the_same_with_a_curve_and_without(runs, name, same_weights):
    assert same_weights(runs[name].weights, runs["study"].weights)
    plain, with_curve = history(runs["study"].folder), history(runs[name].folder)
    for ours, theirs in zip(plain, with_curve, strict=True):
        assert [theirs[key] for key in ours if key != "seconds"] == [ours[key] for key in ours if key != "seconds"]


def test_every_look_at_the_test_set_is_counted(runs):
    looks = {name: len(run.result["test_evaluations"]) for name, run in runs.items()}
    assert looks == {"study": 1, "study_fit": 1, "study_test": 3 + 1}  # one for each validation, and the test


def test_the_test_curve_at_the_best_epoch_is_what_the_test_says(runs):
    rows = history(runs["study_test"].folder)
    best = max(rows, key=lambda row: float(row["val/acc"]))
    for name in ("test/loss", "test/acc"):
        assert float(best[name]) == pytest.approx(runs["study_test"].result["metrics"][name], rel=1e-6)


def test_the_training_curve_is_without_dropout(runs):
    """The last row is of the last weights; `train/acc` is another number: with dropout, and of the whole epoch."""
    run = runs["study_fit"]
    last, data = history(run.folder)[-1], run.trainer.datamodule
    state = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    run.classifier.load_state_dict(state)
    run.classifier.eval()
    indices = data.datasets["train"].indices
    features, labels = data.preprocess(data.source.features[indices]), data.source.labels[indices]
    with torch.no_grad():
        correct = (run.classifier.probabilities(features).argmax(dim=1) == labels).double().mean()
        loss = run.classifier.loss(run.classifier(features), labels)
    assert float(last["fitted/acc"]) == pytest.approx(correct.item())
    assert float(last["fitted/loss"]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(last["gap/fitted/acc"]) == pytest.approx(correct.item() - float(last["val/acc"]))


def test_there_are_curves_of_the_test_and_the_training_split_only():
    with pytest.raises(ConfigError, match="split must be"):
        SplitCurve(split="val")
