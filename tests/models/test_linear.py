"""Updates of large networks on a CPU: equal to the ordinary ones but for rounding, and the same however grouped."""

import logging

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW
from torch.utils.checkpoint import checkpoint

from mlplab.data.loader import Batch
from mlplab.models import linear
from mlplab.models.linear import fast_updates
from mlplab.models.losses import CrossEntropy
from mlplab.models.networks import ResidualMLP, SequentialMLP
from mlplab.models.update import eager_updates
from mlplab.runs import build

SIZES, FACTORS = (128, 300, 4, 128), (1.0, 0.5, 0.2, 1.0)  # MANY_ROWS, and too few for oneDNN


class Shared(nn.Module):
    """Uses one layer twice, its weight once more by itself, and changes what a layer gave in place."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.shared, self.out = nn.Linear(400, 96), nn.Linear(96, 96), nn.Linear(96, 10)
        self.shared.bias.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.embed(features).relu_()
        return self.out(self.shared(self.shared(hidden).relu_()) + hidden @ self.shared.weight)


class Computed(nn.Module):
    """Linear layers whose weights are computed anew in each forward pass, and whose input is named."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.utils.weight_norm(nn.Linear(400, 96))
        self.doubled, self.out = nn.Linear(96, 96), nn.Linear(96, 10)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.embed(input=features)
        weights = {"weight": 2 * self.doubled.weight, "bias": self.doubled.bias}
        hidden = torch.func.functional_call(self.doubled, weights, (hidden,))
        return self.out(input=hidden)


class Repeated(nn.Module):
    """Its hidden layers are computed once more in the backward pass, to save memory."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(400, 96), nn.ReLU(), nn.Linear(96, 96))
        self.out = nn.Linear(96, 10)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(checkpoint(self.hidden, features, use_reentrant=False))


class Watched(nn.Module):
    """Half of the hidden weights are held fast by a hook on their gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(400, 96), nn.Linear(96, 10)
        self.hidden.weight.register_hook(lambda gradient: gradient * (torch.arange(400) % 2))

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.hidden(features).relu())


NETWORKS = {
    "sequential": lambda: SequentialMLP(400, 10, hidden_sizes=[96, 96], dropout=0.3),
    "residual": lambda: ResidualMLP(400, 10, width=96, dropout=0.2),
    "shared": Shared,
    "computed": Computed,
    "repeated": Repeated,
    "watched": Watched,
}


def batches():
    generator = torch.Generator().manual_seed(1)
    return [Batch(torch.randn(n, 400, generator=generator), torch.arange(n) % 10) for n in SIZES]


def trained(make, kind, options, *, fast, group=4, clip_norm=None, count=4):
    """The network after so many batches, in groups of so many, with the last gradients."""
    torch.manual_seed(0)
    network = make()
    optimizer = kind(network.parameters(), lr=0.05, **options)
    optimizer.param_groups[0]["initial_lr"] = 0.05
    if fast:
        updates = fast_updates(network, CrossEntropy(), optimizer, clip_norm=clip_norm)
    else:
        updates = eager_updates(network, CrossEntropy(), optimizer, backward=Tensor.backward, clip_norm=clip_norm)
    for start in range(0, count, group):
        stop = min(start + group, count)
        updates(batches()[start:stop], FACTORS[start:stop])
    return network


@pytest.mark.filterwarnings("ignore:.*weight_norm")  # the old one, which replaces the weight
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_plain_sgd_without_gradients_equals_sgd_but_for_rounding(monkeypatch, make, decay, onednn):
    monkeypatch.setattr(linear, "HAS_ONEDNN", onednn and linear.HAS_ONEDNN)
    monkeypatch.setattr(linear, "LARGE", 400 * 96 * 64)
    options = {"weight_decay": decay}
    expected = trained(make, SGD, options, fast=False)
    found = trained(make, SGD, options, fast=True)
    single = trained(make, SGD, options, fast=True, group=1)
    for ours, theirs, one in zip(*(network.parameters() for network in (found, expected, single)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
        assert torch.equal(ours, one), "the same to the last bit, however updates are grouped"
        if theirs.requires_grad:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert not any("forward" in vars(module) for module in found.modules()), "layers are as before"


@pytest.mark.parametrize(
    ("kind", "options", "clip_norm"),
    [(SGD, {"momentum": 0.9}, None), (SGD, {}, 0.5), (AdamW, {"eps": 0.1}, None)],
)
def test_other_updates_keep_their_gradients(monkeypatch, kind, options, clip_norm):
    monkeypatch.setattr(linear, "LARGE", 400 * 96 * 64)
    make = NETWORKS["sequential"]
    expected = trained(make, kind, options, fast=False, clip_norm=clip_norm)
    found = trained(make, kind, options, fast=True, clip_norm=clip_norm)
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found.parameters(), expected.parameters(), strict=True))


def test_a_part_in_lower_precision_is_computed_in_it():
    class Coarse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(400, 96), nn.Linear(96, 10)

        def forward(self, features: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self.hidden(features)
            return self.out(hidden.relu().float())

    # One update: others may round differently.
    found, expected = (trained(Coarse, SGD, {}, fast=fast, count=1) for fast in (True, False))
    assert all(torch.allclose(*pair, atol=1e-7) for pair in zip(found.parameters(), expected.parameters(), strict=True))


def test_a_layer_keeps_the_forward_that_its_owner_gave_it():
    def make():
        network = NETWORKS["sequential"]()
        network.layers[1].forward = lambda features: functional.linear(features, 2 * network.layers[1].weight)
        return network

    found, expected = trained(make, SGD, {}, fast=True), trained(make, SGD, {}, fast=False)
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found.parameters(), expected.parameters(), strict=True))
    assert [name for name, module in found.named_modules() if "forward" in vars(module)] == ["layers.1"]


def test_layers_that_are_no_longer_frozen_are_trained():
    torch.manual_seed(0)
    network = NETWORKS["sequential"]().requires_grad_(False)
    network.layers[-1].requires_grad_(True)
    optimizer = SGD(network.parameters(), lr=0.05)
    optimizer.param_groups[0]["initial_lr"] = 0.05
    updates = fast_updates(network, CrossEntropy(), optimizer, clip_norm=None)
    before = [parameter.clone() for parameter in network.parameters()]
    updates(batches(), FACTORS)
    changed = [not torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True)]
    assert changed == [False] * 4 + [True] * 2
    network.requires_grad_(True)
    updates(batches(), FACTORS)
    assert not any(torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True))


def test_an_input_that_is_changed_before_its_use_is_an_error():
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(400, 400), nn.Linear(400, 10)

        def forward(self, features: Tensor) -> Tensor:
            hidden = self.first(features)
            features.mul_(2.0)
            return self.out(hidden)

    with pytest.raises(RuntimeError, match="changed in place"):
        trained(Careless, SGD, {}, fast=True)


def test_a_nan_is_seen_at_the_update_where_it_arises():
    torch.manual_seed(0)
    network = NETWORKS["sequential"]()
    optimizer = SGD(network.parameters(), lr=0.05)
    optimizer.param_groups[0]["initial_lr"] = 0.05
    work = batches()
    work[2].features[0, 0] = torch.nan
    losses, _ = fast_updates(network, CrossEntropy(), optimizer, clip_norm=None)(work, FACTORS)
    assert torch.stack(losses).isnan().tolist() == [False, False, True, True]


def test_large_networks_are_fast_and_one_key_switches_it_off(make_config):
    for overrides, fast in (((), False), (("model.hidden_sizes=[256,256]",), True),
                            (("model.hidden_sizes=[256,256]", "trainer.precision=bf16-mixed"), False),
                            (("model.hidden_sizes=[256,256]", "fast_layers=false"), False)):  # fmt: skip
        config = make_config(*overrides)
        assert build.classifier(config, build.data_module(config)).fast_layers is fast


@pytest.mark.parametrize("has_wide_vectors", [True, False])
def test_a_large_network_is_compiled_only_where_its_products_are_not_faster_otherwise(
    has_wide_vectors, make_config, caplog, monkeypatch
):
    monkeypatch.setattr(build, "HAS_ONEDNN", has_wide_vectors)
    config = make_config("model.hidden_sizes=[256,256]", "compile=true", "trainer.accelerator=cpu")
    with caplog.at_level(logging.INFO):
        compiled = build.classifier(config, build.data_module(config)).compile_batch_size
    said = ["compile=true: so large a network is faster with fast_layers=true; not compiled"]
    assert (compiled is None, caplog.messages) == ((True, said) if has_wide_vectors else (False, []))
