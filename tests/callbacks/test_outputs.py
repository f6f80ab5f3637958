"""Looking at a network gives what it computes, and leaves no trace."""

import torch
from torch import nn

from mlplab.callbacks.outputs import activations, evaluating, predictions, samples


def test_predictions_are_those_of_the_network_for_validation_samples(launch):
    run = launch("model=mlp_dropout", "trainer.max_epochs=1")
    data, model = run.trainer.datamodule, run.classifier
    seen = predictions(model, data, "val")
    dataset = data.datasets["val"]
    assert torch.equal(seen.features, data.source.features[dataset.indices])
    assert torch.equal(seen.labels, data.source.labels[dataset.indices])
    with torch.no_grad():
        expected = model.eval().probabilities(data.preprocess(seen.features))
    assert torch.equal(seen.probabilities, expected)


def test_samples_are_spread_over_the_split(launch):
    data = launch("trainer.max_epochs=1").trainer.datamodule
    features, labels = samples(data, "train", most=20)
    indices = data.datasets["train"].indices[::3]  # of 56
    assert torch.equal(features, data.source.features[indices])
    assert torch.equal(labels, data.source.labels[indices])


def test_evaluating_restores_every_mode_and_draws_nothing():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    network[0].eval()
    state, mean = torch.get_rng_state(), network[0].running_mean.clone()
    with evaluating(network):
        assert torch.equal(network(torch.ones(3, 2)), network(torch.ones(3, 2)))
        assert not torch.is_grad_enabled()
    assert [module.training for module in network] == [False, True]
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network[0].running_mean, mean)


def test_activations_are_those_of_all_relus_and_the_last_hidden_layer(launch):
    """The network calls torch.relu; a sequential one has modules."""
    for model in ("mlp", "mlp_sequential"):
        run = launch(f"model={model}", "trainer.max_epochs=1", folder=model)
        network, data = run.classifier.network.eval(), run.trainer.datamodule
        features = data.source.features[:10]
        relus, hidden = activations(run.classifier, data, features)
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            first = linear[0](data.preprocess(features)).relu()
            second = linear[1](first).relu()
        assert len(relus) == 2
        assert torch.equal(relus[0], first)
        assert torch.equal(relus[1], second)
        assert torch.equal(hidden, second)


def test_a_single_layer_has_no_hidden_one(launch):
    run = launch("model=softmax_regression", "trainer.max_epochs=1")
    data = run.trainer.datamodule
    assert activations(run.classifier, data, data.source.features[:5]).last_hidden is None
