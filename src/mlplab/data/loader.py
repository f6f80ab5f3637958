"""Batches of in-memory data through a real DataLoader that fetches whole groups of batches in one call.

A group is the samples of `steps_per_execution` consecutive updates. The order of an epoch depends on the seed and the
epoch only, never on the number of workers, on how updates are grouped, or on what ran before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Samples = tuple[Tensor, Tensor, Tensor, list[int], list[float]]
"""Features (n, …), labels (n,), positions in the split (n,); the sizes and weights of the batches they fall into."""


class Batch(NamedTuple):
    """The samples of one update: features (batch, …), labels (batch,), of mixed samples (batch, classes).

    `weight` corrects the mean where several processes share a batch unevenly: it is 1 in a single process, and 0 for a
    process without a share, which then computes along on a sample that does not count.
    """

    features: Tensor
    labels: Tensor
    weight: float = 1.0


class Group(NamedTuple):
    """Which samples to fetch at once: positions in the split (n,), and the sizes and weights of their batches."""

    positions: Tensor
    sizes: list[int]
    weights: list[float]


class InMemoryDataset(Dataset[Samples]):
    """One split: the samples of `features` and `labels` at `indices`, gathered only when asked for."""

    def __init__(self, features: Tensor, labels: Tensor, indices: Tensor | None = None) -> None:
        self.features, self.labels = features.contiguous(), labels
        self.indices = torch.arange(len(labels)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, group: Group) -> Samples:
        """All samples of a group in one gather; DataLoader calls this with what the batch sampler yields."""
        indices = self.indices[group.positions].to(self.features.device)
        # index_select copies whole rows, which is much faster than indexing a tensor of four dimensions.
        rows = self.features.flatten(1).index_select(0, indices)
        return rows.view(-1, *self.features.shape[1:]), self.labels[indices], *group


@dataclass
class EpochOrder:
    """The order of each epoch: a permutation that depends on (seed, epoch) alone, or 0, 1, … without shuffling.

    Lightning takes `span` epochs for one of its own; `epoch` is the first of them.
    """

    num_samples: int
    seed: int = 0
    shuffle: bool = True
    epoch: int = 0
    span: int = 1

    def set_epoch(self, epoch: int) -> None:
        """Lightning announces its epochs by this."""
        self.epoch = epoch * self.span

    def order(self, later: int = 0) -> Tensor:
        """Sample positions (n,) in the order of the epoch that is so many later than the current one."""
        if not self.shuffle:
            return torch.arange(self.num_samples)
        return torch.randperm(self.num_samples, generator=epoch_generator(self.seed, self.epoch + later))


class GroupedBatches(Sampler[Group]):
    """Yields `group_size` consecutive batches at a time; of a batch shared by several processes, this process's part.

    The last batch of an epoch may be smaller; nothing is dropped. With several processes the batches are those of a
    single one: process r of w takes samples r, r + w, … of each. The weight is w × (its share of the batch), so that
    the mean of the processes' weighted means is the mean over the batch; a process without a share computes along on
    one sample of weight 0. `done` is the first epoch of a span, and how many of the span's batches an earlier launch of
    this run has used.
    """

    def __init__(
        self, sampler: EpochOrder, *, batch_size: int, group_size: int = 1, max_batches: int | None = None,
        done: tuple[int, int] = (0, 0), rank: int = 0, world_size: int = 1,
    ) -> None:  # fmt: skip
        self.sampler, self.batch_size, self.group_size = sampler, batch_size, group_size
        self.done, self.rank, self.world_size = done, rank, world_size
        available = -(-sampler.num_samples // batch_size)
        self.num_batches = available if max_batches is None else min(available, max_batches)  # of an epoch

    def __len__(self) -> int:
        return -(-self.num_batches * self.sampler.span // self.group_size)

    def __iter__(self) -> Iterator[Group]:
        order = [self.sampler.order(later)[: self.num_batches * self.batch_size] for later in range(self.sampler.span)]
        batches = [batch for epoch in order for batch in epoch.split(self.batch_size)]
        epoch, done = self.done
        start = done if self.sampler.epoch == epoch else 0
        while start < len(batches):
            stop = min(start - start % self.group_size + self.group_size, len(batches))  # the rest of a group begun
            group, start = batches[start:stop], stop
            if self.world_size == 1:
                yield Group(torch.cat(group), [len(batch) for batch in group], [1.0] * len(group))
                continue
            shares = [batch[self.rank :: self.world_size] for batch in group]
            weights = [self.world_size * len(share) / len(batch) for share, batch in zip(shares, group, strict=True)]
            shares = [share if len(share) else batch[:1] for share, batch in zip(shares, group, strict=True)]
            yield Group(torch.cat(shares), [len(share) for share in shares], weights)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator for everything random that belongs to one epoch: order and augmentation."""
    # An odd multiplier keeps (seed, epoch) pairs apart: neighbouring seeds never share an epoch's stream.
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + epoch) % 2**63)


def make_loader(dataset: InMemoryDataset, batches: GroupedBatches, *, num_workers: int, pin_memory: bool) -> DataLoader:
    """A DataLoader whose every fetch is one gather; it draws from a generator of its own, never from the global one."""
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # a Group instead of a list of integers
        num_workers=num_workers,
        collate_fn=tuple,  # the dataset has made the batch already
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
