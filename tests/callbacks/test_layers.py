"""The layer monitor against what its quantities are defined as."""

import copy

import pytest
import torch
from torch import nn

from mlplab.callbacks.base import measured
from mlplab.callbacks.layers import dead_share, layer_weights, update_to_weight
from mlplab.runs import train as training

ONLY_LAYERS = (
    "~callbacks.tensorboard", "~callbacks.gradient_noise", "~callbacks.progress_bar",
    "~callbacks.update_monitor", "trainer.enable_progress_bar=false", "test=false",
)  # fmt: skip


@pytest.mark.parametrize(("optimizer", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {}), ("RMSprop", {})])
def test_update_to_weight_is_what_the_next_step_does(optimizer, options):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    made = getattr(torch.optim, optimizer)(network.parameters(), lr=0.1, **options)
    for _ in range(3):
        made.zero_grad()
        network(torch.randn(5, 3)).square().mean().backward()
        made.step()
    layers, state = layer_weights(network), copy.deepcopy(made.state_dict())
    before = {name: weight.clone() for name, weight in layers.items()}
    ratios = update_to_weight(made, layers)
    assert all(torch.equal(layers[name], before[name]) for name in layers)  # nothing has moved
    assert str(made.state_dict()) == str(state)
    made.step()
    for name, weight in layers.items():
        assert ratios[name] == pytest.approx(float((weight - before[name]).norm() / before[name].norm()), rel=1e-5)


def test_a_unit_is_dead_where_it_is_zero_for_all_samples():
    assert dead_share(torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])) == 0.5


def test_a_run_logs_each_layer_at_its_moments(launch_full, scalars):
    run = launch_full(*ONLY_LAYERS, "trainer.max_epochs=5", "callbacks.layers.every=2")
    logged = scalars(run.folder)
    for name in ("weight_norm/linear_1", "update_to_weight/linear_2", "dead_relus/relu_2"):
        assert [step for step, _ in logged[name]] == [2, 4, 8, 10], name  # first epoch, 2nd and 4th, the end
    final = run.weights["linear_1.weight"].norm().item()
    assert logged["weight_norm/linear_1"][-1][1] == pytest.approx(final, rel=1e-6)
    assert [row["updates"] for row in measured(run.trainer).layers] == [2, 4, 8, 10]
    training.resume(run.folder, overrides=["trainer.max_epochs=6"])
    assert [step for step, _ in scalars(run.folder)["dead_relus/relu_2"]] == [2, 4, 8, 10, 12]
