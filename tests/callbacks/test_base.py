"""When the network is looked at; and that looking gives what it computes and leaves no trace."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlplab.callbacks import base
from mlplab.callbacks.base import activations, look_is_due


def trainer(max_epochs=None, max_steps=-1, updates_per_epoch=4):
    return SimpleNamespace(
        max_epochs=max_epochs, max_steps=max_steps, global_step=0,
        datamodule=SimpleNamespace(updates_per_epoch=updates_per_epoch, span=1),
    )  # fmt: skip


def looks(run, *, every="auto"):
    """The epochs after which the network is looked at."""
    last, epochs = None, []
    for epoch in range(1, run.max_epochs + 1):
        run.global_step = epoch * run.datamodule.updates_per_epoch
        if look_is_due(run, last, every=every):
            last = run.global_step
            epochs.append(epoch)
    return epochs


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "planned"), [(5, -1, 20), (5, 12, 12), (5, 100, 20), (-1, 12, 12), (-1, -1, None)]
)
def test_a_run_ends_at_the_first_limit(max_epochs, max_steps, planned):
    assert base.planned_updates(trainer(max_epochs, max_steps)) == planned


@pytest.mark.parametrize(
    ("epochs", "updates_per_epoch", "expected"),
    [
        (10, 22, [1, 4, 7, 10]),  # as often as three times is worth its cost in any run
        (50, 22, [1, 9, 17, 25, 34, 42, 50]),
        (100, 1, [1, 15, 29, 43, 58, 72, 86, 100]),  # full batch: an epoch's end takes longer than it
        (30, 352, [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]),
    ],
)
def test_a_short_run_is_looked_at_less_often(epochs, updates_per_epoch, expected):
    assert looks(trainer(epochs, updates_per_epoch=updates_per_epoch)) == expected


# Without a trace


def test_samples_are_spread_over_the_split_and_their_probabilities_are_those_of_the_network(launch):
    run = launch("model=mlp_dropout", "trainer.max_epochs=1")
    data, model = run.trainer.datamodule, run.classifier
    features, labels = base.samples(data, "train", most=20)
    indices = data.datasets["train"].indices[::3]  # of 56
    assert torch.equal(features, data.source.features[indices])
    assert torch.equal(labels, data.source.labels[indices])
    seen = base.probabilities(model, data, features)
    with torch.no_grad():
        assert torch.equal(seen, model.eval().probabilities(data.preprocess(features)))


def test_activations_are_those_of_all_relus_and_the_last_hidden_layer(launch):
    """The network calls torch.relu; a sequential one has modules."""
    for model in ("mlp", "mlp_sequential"):
        run = launch(f"model={model}", "trainer.max_epochs=1", folder=model)
        network, data = run.classifier.network.eval(), run.trainer.datamodule
        features = data.source.features[:10]
        (first, second), hidden = activations(run.classifier, data, features)
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            assert torch.equal(first, linear[0](data.preprocess(features)).relu())
            assert torch.equal(second, linear[1](first).relu())
        assert torch.equal(hidden, second)


def test_every_way_to_compute_a_relu_is_seen_once():
    x = torch.tensor([[-1.0, 2.0]])
    ways = (torch.relu, F.relu, nn.ReLU(), nn.ReLU(inplace=True), torch.Tensor.relu, torch.Tensor.relu_, torch.relu_)
    for relu in ways:
        with base.Watching() as seen:
            relu(x.clone())
        assert [output.tolist() for output in seen.relus] == [[[0.0, 2.0]]]


def test_only_what_is_computed_for_samples_is_seen():
    features, gate = torch.ones(3, 2), torch.tensor([-1.0, 2.0])
    with base.Watching() as seen:
        F.linear(input=features, weight=gate.relu()[None])
    assert seen.relus == []
    assert seen.linear_inputs[0] is features
