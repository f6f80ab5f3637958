"""Networks of the user's own: two columns for two classes, other shapes refused; numbers of every precision."""

import logging
import re
from contextlib import nullcontext
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from mlplab.callbacks.base import measured
from mlplab.errors import ConfigError
from mlplab.models import networks
from mlplab.models.losses import CrossEntropy
from mlplab.runs.network import check_images, check_loss, check_outputs
from mlplab.runs.predict import predict


class Two(networks.SequentialMLP):
    """The usual habit: two columns for two classes."""

    def __init__(self, num_features, num_outputs, *, columns=2):
        super().__init__(num_features, columns)


@pytest.fixture
def two(monkeypatch):
    """It as one of mlplab's networks; what chooses it."""
    monkeypatch.setattr(Two, "__module__", networks.__name__)
    monkeypatch.setattr(networks, "Two", Two, raising=False)
    return "model=softmax_regression", "model._target_=mlplab.models.networks.Two"


@pytest.mark.parametrize("loss", ["cross_entropy", "perceptron"])
def test_two_columns_for_two_classes_decide_everywhere(loss, two, launch_full, composed, monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr("mlplab.figures.classification.confusion", lambda *both, **_: seen.update(figure=both))
    run = launch_full(
        *two, f"loss={loss}", "optimizer.lr=0.5", "trainer.max_epochs=8", "callbacks=study_fit",
        "figures=every_epoch", "test=false",
    )  # fmt: skip
    network, data, right = run.classifier.network.eval(), run.trainer.datamodule, {}
    for split in ("train", "val"):
        points = data.source.features[data.datasets[split].indices]
        with torch.no_grad():
            predicted = network(data.preprocess(points)).argmax(dim=1)
        right[split] = (predicted == data.source.labels[data.datasets[split].indices]).float().mean().item()
    assert 0.8 < right["train"] != right["val"]
    assert run.metrics["val/acc"] == pytest.approx(right["val"])
    assert measured(run.trainer).history[-1]["fitted/acc"] == pytest.approx(right["train"])
    probabilities, labels = seen["figure"]
    assert (probabilities.argmax(dim=1) == labels).float().mean().item() == pytest.approx(right["val"])

    pd.DataFrame(points.numpy()).to_csv(tmp_path / "in.csv", index=False, header=False)
    files = [f"run={run.folder}", f"input={tmp_path / 'in.csv'}", f"output={tmp_path / 'out.csv'}"]
    predict(composed("predict", *files, "checkpoint=last", "accelerator=cpu"))
    expected = [data.source.class_names[index] for index in predicted.tolist()]
    assert pd.read_csv(tmp_path / "out.csv")["class"].tolist() == expected


@pytest.mark.parametrize("shape", [(4, 9, 9), (1, 4, 9), (2,), (81,)])
@pytest.mark.parametrize("options", [{"gabor_filters": True}, {"cosine_transform": 4}])
def test_what_is_for_square_images_is_refused_for_others(options, shape):
    ((key, value),) = options.items()
    refusal = f"model.{key}={str(value).lower()} needs square images.*shape {re.escape(str(shape))}"
    with pytest.raises(ConfigError, match=refusal):
        check_images(options, shape)
    for fitting in ((1, 9, 9), (3, 9, 9)):
        check_images(options, fitting)
    check_images({"gabor_filters": False, "cosine_transform": True}, shape)


class Shaped(nn.Module):
    """Logits of any form; it draws random numbers, in training too."""

    def __init__(self, columns, form):
        super().__init__()
        self.linear, self.norm, self.form = nn.Linear(12, columns), nn.BatchNorm1d(columns), form

    def forward(self, features):
        return self.form(self.norm(self.linear(features.flatten(1))) + torch.rand(1))


@pytest.mark.parametrize(
    ("classes", "columns", "form", "has"),
    [
        (2, 1, lambda logits: logits[:, 0], "(3,), and must have (3, 1) or (3, 2)"),
        (2, 3, lambda logits: logits, "(3, 3), and must have (3, 1) or (3, 2)"),
        (2, 2, lambda logits: logits.T, "(2, 3), and must have (3, 1) or (3, 2)"),
        (3, 1, lambda logits: logits, "(4, 1), and must have (4, 3)"),
        (3, 4, lambda logits: logits, "(4, 4), and must have (4, 3)"),
        (3, 3, lambda logits: logits[:, :, None], "(4, 3, 1), and must have (4, 3)"),
        (3, 3, lambda logits: (logits, logits), "tuple, and must have (4, 3)"),
        (3, 3, lambda logits: logits @ torch.ones(5, 3), None),
    ],
)
def test_outputs_of_another_shape_are_refused_with_the_shape_they_need(classes, columns, form, has):
    with pytest.raises(ConfigError) as caught:
        check_outputs(Shaped(columns, form), SimpleNamespace(num_classes=classes, feature_shape=(3, 2, 2)))
    said = f"have the shape {has}" if has else "model: it fails on features of shape (4, 3, 2, 2): "
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        (lambda logits: logits.softmax(dim=1), 1),
        (lambda logits: logits.double().softmax(dim=1), 1),
        (lambda logits: logits.relu(), 0),
        (torch.sigmoid, 0),
    ],
)
def test_a_softmax_at_the_end_is_named(form, lines, caplog):
    check_outputs(Shaped(3, form), SimpleNamespace(num_classes=3, feature_shape=(3, 2, 2)))
    assert ["leave out the softmax" in message for message in caplog.messages] == [True] * lines


class InTraining(nn.Module):
    """Logits that are right in evaluation; what `form` makes of them in training."""

    def __init__(self, form):
        super().__init__()
        self.linear, self.norm, self.form = nn.Linear(4, 3), nn.BatchNorm1d(3), form

    def forward(self, features):
        logits = self.norm(self.linear(features))
        return self.form(logits) if self.training else logits


class OneEach(CrossEntropy):
    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits, labels, reduction="none")


UNFIT = {
    "a tuple": (lambda logits: (logits, logits), CrossEntropy(), "loss: it fails in training, on 4 samples: "),
    "detached": (lambda logits: logits.detach(), CrossEntropy(), "model: no weight decides its outputs"),
    "whole numbers": (lambda logits: logits.long(), CrossEntropy(), "loss: it fails in training"),
    "an error": (lambda logits: logits @ logits, CrossEntropy(), "model: it fails in training, on 4 samples: "),
    "a loss for each": (lambda logits: logits, OneEach(), r"loss: OneEach must give the mean .* got tensor"),
    "torch's own loss": (lambda logits: logits, nn.CrossEntropyLoss(), r"CrossEntropyLoss must have .* probabilities"),
    "fit": (lambda logits: logits, CrossEntropy(), None),
}  # fmt: skip


@pytest.mark.parametrize(("form", "loss", "said"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_trained_is_refused_and_the_network_stays_as_it_was(form, loss, said):
    network, stream = InTraining(form), torch.get_rng_state()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigError, match=said) if said else nullcontext():
        check_loss(network, loss, SimpleNamespace(num_classes=3, feature_shape=(4,)))
    assert network.training
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_without_weights_is_named():
    hidden = nn.Module()
    hidden.layers = [nn.Linear(4, 3)]
    with pytest.raises(ConfigError, match=r"model: it has no weights; layers are found in an nn\.ModuleList"):
        check_outputs(hidden, SimpleNamespace(num_classes=3, feature_shape=(4,)))


def test_a_network_that_does_not_fit_is_refused_before_anything_is_written(two, launch, tmp_path):
    with pytest.raises(ConfigError, match="model: its outputs for 3 samples of 2 classes have the shape"):
        launch(*two, "+model.columns=3")
    assert not (tmp_path / "run").exists()


# Precision


@pytest.mark.parametrize(
    ("precision", "dtype", "error"),
    [("64-true", torch.float64, 1e-6), ("bf16-true", torch.bfloat16, 2e-2), ("16-true", torch.float16, 2e-3),
     ("bf16-mixed", torch.float32, 2e-2), ("16-mixed", torch.float32, 2e-2)],
)  # fmt: skip
@pytest.mark.parametrize("model", ["mlp_dropout", "perceptron"])
def test_every_precision_trains_and_reports_losses_that_are_not_rounded(
    model, precision, dtype, error, launch_full, fast_bfloat16
):
    settings = ("data.batch_size=8", "optimizer.lr=0.5", "test=false", f"model={model}")
    exact = launch_full(*settings, folder="exact")
    run = launch_full(*settings, f"trainer.precision={precision}", "figures=every_epoch")
    assert {weight.dtype for weight in run.weights.values()} == {dtype}
    for name in ("val/loss", "train/loss"):
        loss = torch.tensor(run.metrics[name])
        assert abs(loss - exact.metrics[name]) < error
    assert loss != loss.bfloat16()
    assert {path.stem for path in (run.folder / "figures").iterdir()} >= {"weights", "confusion", "decision_boundary"}


def test_half_precision_on_the_cpu_is_said_to_be_another(launch, caplog, fast_bfloat16):
    with caplog.at_level(logging.WARNING, logger="mlplab"):
        launch("trainer.precision=16")
    assert "trainer.precision=16 is for GPUs; on the CPU it is computed as with bf16-mixed" in caplog.messages


def test_mixed_precision_is_computed_in_float32_where_the_processor_would_be_many_times_slower(
    launch, caplog, monkeypatch, same_weights
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with caplog.at_level(logging.WARNING, logger="mlplab"):
        mixed = launch("trainer.precision=bf16-mixed", folder="mixed")
    said = "trainer.precision=bf16-mixed is slow on this processor; computed in float32, as with 32-true"
    assert said in caplog.messages
    assert same_weights(mixed.weights, launch(folder="exact").weights)
