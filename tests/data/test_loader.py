"""The loader: what an epoch covers, what its order depends on, and how processes share a batch."""

from itertools import chain

import pytest
import torch

from mlplab.data.loader import EpochOrder, GroupedBatches, InMemoryDataset, make_loader

NUM_SAMPLES = 23


def dataset(num_samples=NUM_SAMPLES):
    """Features that name their sample: row i holds (i, −i); labels are i too. Half of what is stored is not used."""
    numbers = torch.arange(2 * num_samples)
    features = torch.stack([numbers, -numbers], dim=1).float()
    return InMemoryDataset(features, numbers, indices=torch.arange(0, 2 * num_samples, 2))


def loader(data=None, *, batch_size=4, epoch=0, seed=0, shuffle=True, num_workers=0, **options):
    data = dataset() if data is None else data
    order = EpochOrder(len(data), seed=seed, shuffle=shuffle)
    order.set_epoch(epoch)
    batches = GroupedBatches(order, batch_size=batch_size, **options)
    return make_loader(data, batches, num_workers=num_workers, pin_memory=False)


def batches(*args, **options):
    """Positions in the split, batch by batch, as lists; checks that features, labels and positions go together."""
    found = []
    for features, labels, positions, sizes, weights in loader(*args, **options):
        assert torch.equal(labels, 2 * positions)
        assert torch.equal(features, torch.stack([labels, -labels], dim=1).float())
        assert len(sizes) == len(weights)
        found += [batch.tolist() for batch in positions.split(sizes)]
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 23])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_covers_each_sample_once(batch_size, shuffle):
    found = batches(batch_size=batch_size, shuffle=shuffle)
    assert sorted(chain(*found)) == list(range(NUM_SAMPLES))
    assert {len(batch) for batch in found[:-1]} <= {batch_size}


def test_order_is_a_function_of_seed_and_epoch_alone():
    first = batches(seed=3, epoch=5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert batches(seed=3, epoch=5) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert list(chain(*first)) != list(range(NUM_SAMPLES))
    others = [batches(seed=seed, epoch=epoch) for seed in range(4) for epoch in range(8)]
    assert len({str(found) for found in others}) == 32


def test_lightning_announces_epochs_through_the_sampler():
    from lightning.fabric.utilities.data import _set_sampler_epoch

    same = loader()
    first = [positions.tolist() for _, _, positions, _, _ in same]
    assert [positions.tolist() for _, _, positions, _, _ in same] == first
    _set_sampler_epoch(same, 7)
    second = [positions.tolist() for _, _, positions, _, _ in same]
    assert second != first
    assert list(chain(*second)) == list(chain(*batches(epoch=7)))


@pytest.mark.parametrize("group_size", [1, 2, 3, 6, 100])
def test_grouping_does_not_change_the_batches(group_size):
    groups = loader(group_size=group_size)
    assert len(groups) == len(list(groups)) == -(-6 // group_size)
    assert batches(group_size=group_size, epoch=2) == batches(epoch=2)


@pytest.mark.parametrize("done", [0, 1, 3, 4, 6])
def test_an_epoch_continues_after_any_number_of_batches(done):
    assert batches(group_size=2, epoch=2, done=(2, done)) == batches(epoch=2)[done:]
    assert batches(group_size=2, epoch=3, done=(2, done)) == batches(epoch=3)


def test_workers_do_not_change_the_batches():
    assert batches(num_workers=2, group_size=2, epoch=2) == batches(epoch=2)


@pytest.mark.parametrize("group_size", [1, 2, 5])
@pytest.mark.parametrize(("max_batches", "expected"), [(1, 1), (4, 4), (6, 6), (99, 6)])
def test_max_batches_are_the_first_of_the_epoch(max_batches, expected, group_size):
    assert batches(max_batches=max_batches, group_size=group_size) == batches()[:expected]


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("group_size", [1, 4])
@pytest.mark.parametrize(("num_samples", "batch_size"), [(23, 4), (21, 4), (22, 5), (9, 9), (4, 1)])
def test_processes_together_have_the_batches_of_a_single_one(world_size, group_size, num_samples, batch_size):
    data = dataset(num_samples)
    whole = batches(data, batch_size=batch_size)
    values = torch.randn(num_samples, dtype=torch.float64)
    shares = []
    for rank in range(world_size):
        mine = loader(data, batch_size=batch_size, group_size=group_size, rank=rank, world_size=world_size)
        parts = []
        for _, _, positions, sizes, weights in mine:
            parts += list(zip(positions.split(sizes), weights, strict=True))
        shares.append(parts)
    assert {len(parts) for parts in shares} == {len(whole)}  # as many updates in every process
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        counted = [position for share, weight in parts if weight > 0 for position in share.tolist()]
        assert sorted(counted) == sorted(batch)
        assert all(len(share) > 0 for share, _ in parts)
        mean = sum(weight * values[share].mean() for share, weight in parts) / world_size
        torch.testing.assert_close(mean, values[batch].mean())
