"""The metrics of single updates against a loop that computes them by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from mlplab.callbacks.monitors import l2_norm
from mlplab.runs import build

ONLY_MONITOR = (
    "~callbacks.tensorboard", "~callbacks.gradient_noise", "~callbacks.progress_bar",
    "test=false", "data.batch_size=5", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false",
)  # fmt: skip


def by_hand(config, *, clip=None):
    """Loss before the update, gradient norm, and weight norm after it: one triple for each of 24 updates."""
    torch.manual_seed(config.seed)
    data = build.data_module(config)
    network = build.classifier(config, data).network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    values = []
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.batch_sampler.sampler.set_epoch(epoch)
        for group in loader:
            for batch in data.on_after_batch_transfer(group, 0):
                loss = F.binary_cross_entropy_with_logits(network(batch.features)[:, 0], batch.labels.float())
                optimizer.zero_grad()
                loss.backward()
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
                gradient = math.sqrt(sum(float(p.grad.double().square().sum()) for p in network.parameters()))
                optimizer.step()
                weights = math.sqrt(sum(float(p.detach().double().square().sum()) for p in network.parameters()))
                values.append((loss.item(), gradient, weights))
    return values


@pytest.mark.parametrize("clip", [None, 0.05])
def test_every_update_is_what_a_loop_computes(clip, launch_full, scalars):
    run = launch_full(
        *ONLY_MONITOR, "steps_per_execution=1", "callbacks.update_monitor.every_n_updates=1",
        f"trainer.gradient_clip_val={'null' if clip is None else clip}",
    )  # fmt: skip
    logged, expected = scalars(run.folder), by_hand(run.config, clip=clip)
    for name, column in (("batch/loss", 0), ("grad/norm", 1), ("weights/l2_norm", 2)):
        assert [step for step, _ in logged[name]] == list(range(1, 25))
        assert [value for _, value in logged[name]] == pytest.approx([row[column] for row in expected], rel=1e-5), name
    if clip is not None:
        assert max(value for _, value in logged["grad/norm"]) == pytest.approx(clip, rel=1e-4)


def test_a_group_reports_its_last_update(launch_full, scalars):
    run = launch_full(*ONLY_MONITOR, "steps_per_execution=5", "callbacks.update_monitor.every_n_updates=1")
    logged, expected = scalars(run.folder), by_hand(run.config)
    steps = [5, 10, 12, 17, 22, 24]
    for name, column in (("batch/loss", 0), ("grad/norm", 1), ("weights/l2_norm", 2)):
        assert logged[name] == [(step, pytest.approx(expected[step - 1][column], rel=1e-5)) for step in steps], name


@pytest.mark.parametrize(
    ("group_size", "every", "expected"),
    [(1, 10, [1, 10, 20]), (1, 24, [1, 24]), (1, 50, [1]), (4, 10, [4, 12, 20]), (12, 10, [12, 24]), (12, 50, [12])],
)
def test_it_logs_the_first_and_every_nth_update(group_size, every, expected, launch_full, scalars):
    run = launch_full(
        *ONLY_MONITOR, f"steps_per_execution={group_size}", f"callbacks.update_monitor.every_n_updates={every}"
    )
    assert [step for step, _ in scalars(run.folder)["lr"]] == expected


def test_the_norm_is_over_all_elements_of_all_tensors():
    tensors = [torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([4.0])]
    assert l2_norm(tensors).item() == 5.0
    assert l2_norm([]).item() == 0.0
