"""The networks against each other, and against formulas written out here."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlplab.models.networks import (
    ACTIVATIONS,
    MLP,
    Perceptron,
    ResidualBlock,
    ResidualMLP,
    SequentialMLP,
    SoftmaxRegression,
)

NETWORKS = [Perceptron, SoftmaxRegression, MLP, SequentialMLP, ResidualMLP]


def copy_parameters(source, target):
    """Parameters in order, as if the two networks had been written by the same hand."""
    with torch.no_grad():
        for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
            ours.copy_(theirs)
    return target


def dropouts(network):
    return [module for module in network.modules() if isinstance(module, nn.Dropout)]


@pytest.mark.parametrize(
    ("network", "sequential"),
    [
        (MLP(5, 3, hidden_sizes=[7, 4], dropout=0.5), SequentialMLP(5, 3, hidden_sizes=[7, 4], dropout=0.5)),
        (SoftmaxRegression(5, 3), SequentialMLP(5, 3, hidden_sizes=[])),
    ],
    ids=lambda network: type(network).__name__,
)
def test_equal_weights_give_equal_outputs_with_dropout_and_while_evaluating(network, sequential):
    features, outputs = torch.randn(11, 5), []
    for each in (network, copy_parameters(network, sequential)):
        torch.manual_seed(1)
        outputs.append((each(features), each.eval()(features)))
    assert all(map(torch.equal, *outputs))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("shape", "num_outputs"), [((1,), 1), ((2,), 1), ((3,), 10), ((3, 4, 5), 2)])
def test_any_number_of_inputs_and_classes_and_images_are_flattened(network, shape, num_outputs):
    features = torch.randn(6, *shape)
    net = network(features[0].numel(), num_outputs)
    assert net(features).shape == (6, num_outputs)
    assert torch.equal(net(features), net(features.flatten(1)))


@pytest.mark.parametrize("network", [Perceptron, SoftmaxRegression])
def test_linear_networks_are_linear(network):
    net, features = network(5, 3), torch.randn(11, 5)
    torch.testing.assert_close(net(features), features @ net.linear.weight.T + net.linear.bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("normalization", "norm"), [("none", None), ("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)]
)
def test_layers_come_in_the_documented_order(activation, normalization, norm):
    net = SequentialMLP(
        5, 3, hidden_sizes=[7, 4], activation=activation, normalization=normalization, dropout=[0.2, 0.6]
    )
    block = [nn.Linear, norm, ACTIVATIONS[activation], nn.Dropout]
    expected = [nn.Flatten, *block, *block, nn.Linear]
    assert [type(module) for module in net.layers] == [kind for kind in expected if kind is not None]


@pytest.mark.parametrize("network", [MLP, SequentialMLP])
def test_each_hidden_layer_has_its_own_dropout(network):
    assert [drop.p for drop in dropouts(network(5, 3, hidden_sizes=[7, 4], dropout=[0.2, 0.6]))] == [0.2, 0.6]
    assert [drop.p for drop in dropouts(network(5, 3, hidden_sizes=[7, 4], dropout=0.3))] == [0.3, 0.3]
    assert [drop.p for drop in dropouts(network(5, 3, hidden_sizes=[7, 4], dropout=[0.0, 0.6]))] == [0.6]


@pytest.mark.parametrize("network", [SequentialMLP, ResidualMLP])
def test_input_dropout_drops_features(network):
    net, features = network(200, 3, input_dropout=0.25), torch.ones(50, 200)
    (drop,) = dropouts(net)
    seen = []
    next(module for module in net.modules() if isinstance(module, nn.Linear)).register_forward_hook(
        lambda _, inputs, output: seen.append(inputs[0])
    )
    net(features)
    assert drop.p == 0.25
    assert seen[0].unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(net.eval()(features), net.eval()(features))


def test_residual_block_drops_activations():
    block, hidden, seen = ResidualBlock(6, expansion=2, activation="gelu", dropout=0.5), torch.randn(11, 6), []
    block.dropout.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    result = block(hidden)
    ((before, after),) = seen
    assert torch.equal(before, F.gelu(block.expand(block.norm(hidden))))
    assert torch.equal(result, hidden + block.contract(after))


def test_residual_mlp_is_its_formula():
    net, features = ResidualMLP(5, 3, width=6, depth=2, expansion=3, activation="silu"), torch.randn(11, 5)
    hidden = features @ net.embed.weight.T + net.embed.bias
    for block in net.blocks:
        assert block.expand.weight.shape == (18, 6)
        centred = hidden - hidden.mean(dim=1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        inner = (scaled * block.norm.weight + block.norm.bias) @ block.expand.weight.T + block.expand.bias
        hidden = hidden + (inner * inner.sigmoid()) @ block.contract.weight.T + block.contract.bias
    torch.testing.assert_close(net(features), hidden @ net.linear_out.weight.T + net.linear_out.bias)


def test_threshold_is_the_side_or_the_largest():
    assert Perceptron.threshold(torch.tensor([[-0.1], [0.1], [0.0]])).tolist() == [0, 1, 0]
    assert Perceptron.threshold(torch.tensor([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]])).tolist() == [1, 0]
