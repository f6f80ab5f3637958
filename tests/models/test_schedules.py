"""The schedules: their end points, shapes, and Plateau against torch's own."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, ReduceLROnPlateau

from mlplab.models.schedules import Plateau, constant, cosine, linear, one_cycle, step

TOTAL = 200


def factors(schedule, total=TOTAL):
    return [schedule(update, total) for update in range(total + 1)]


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        (constant, partial(ConstantLR, factor=1.0)),
        (partial(linear, final=0.1), partial(LinearLR, start_factor=1.0, end_factor=0.1, total_iters=TOTAL)),
        (partial(cosine, final=0.1), partial(CosineAnnealingLR, T_max=TOTAL, eta_min=0.1)),
        (cosine, partial(CosineAnnealingLR, T_max=TOTAL)),
    ],
)
def test_schedules_are_torchs(schedule, reference):
    optimizer, expected = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), []
    reference = reference(optimizer)
    for _ in range(TOTAL + 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(schedule) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", [constant, linear, cosine, partial(step, milestones=[0.5]), Plateau(warmup=0.1)])
def test_warm_up_rises_in_equal_steps_and_meets_the_schedule(schedule):
    if not isinstance(schedule, Plateau):
        schedule = partial(schedule, warmup=0.1)
    values = factors(schedule)[:22]
    assert values[:20] == pytest.approx([(update + 1) / 21 for update in range(20)])
    assert values[20] == 1.0  # the next step of the same stair: continuous
    assert values[21] <= 1.0


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_after_the_warm_up_the_schedule_has_the_rest_of_the_run(schedule):
    with_warmup, alone = factors(partial(schedule, warmup=0.25)), factors(schedule, total=150)
    assert with_warmup[50:] == pytest.approx(alone)


def test_steps_lie_at_the_milestones():
    values = factors(partial(step, milestones=[0.5, 0.75], gamma=0.1), 8)
    assert values == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])
    values = factors(partial(step, milestones=[0.5], gamma=0.5, warmup=0.2), 10)  # 2 updates, then 8
    assert values == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5])


def test_one_cycle_starts_low_peaks_once_and_ends_at_final():
    values = factors(partial(one_cycle, start=0.04, final=0.01, warmup=0.3))
    assert values[0] == pytest.approx(0.04)
    assert values[60] == max(values) == 1.0
    assert values[-1] == pytest.approx(0.01)
    assert all(earlier < later for earlier, later in pairwise(values[:61]))
    assert all(earlier > later for earlier, later in pairwise(values[60:]))
    assert max(abs(later - earlier) for earlier, later in pairwise(values)) < 0.03


@pytest.mark.parametrize(
    "schedule",
    [constant, linear, cosine, one_cycle, partial(step, milestones=[0.5]), Plateau()],
    ids=lambda schedule: getattr(schedule, "__name__", type(schedule).__name__),
)
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_short_runs_have_factors_too(schedule, total):
    assert all(math.isfinite(factor) and factor >= 0 for factor in factors(schedule, total))


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [0, 1, 4])
def test_plateau_is_torchs(mode, patience):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = ReduceLROnPlateau(optimizer, mode=mode, factor=0.5, patience=patience, threshold=0, eps=0)
    plateau = Plateau(gamma=0.5, patience=patience, mode=mode)
    metrics = [*torch.linspace(0, 1, 5).tolist(), *torch.rand(60).tolist(), 1.0, 1.0, math.nan, *torch.rand(5).tolist()]
    for metric in metrics:
        plateau.observe(metric)
        reference.step(metric)
        assert plateau(7, TOTAL) == optimizer.param_groups[0]["lr"]
    assert plateau(7, TOTAL) < 1
