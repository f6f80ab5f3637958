"""Seeded, stratified index sets. The test set is set apart first and depends on nothing but the split seed."""

from typing import NamedTuple

import torch
from torch import Tensor

from mlplab.checks import ConfigError


class Splits(NamedTuple):
    """Indices into the samples: (n_train,), (n_validation,), (n_test,); test is empty where an official set exists."""

    train: Tensor
    validation: Tensor
    test: Tensor


def stratified_order(labels: Tensor, *, seed: int) -> Tensor:
    """A random order (n,) of which every prefix holds the classes in (nearly) their overall proportions.

    Each class is shuffled and its samples are spread evenly over [0, 1); sorting by that position mixes the classes.
    Slices of this order are therefore stratified, and prefixes are nested: a larger one contains every smaller one.
    """
    generator = torch.Generator().manual_seed(seed)
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        position[members] = (torch.arange(len(members), dtype=torch.float64) + offset) / len(members)
    return position.argsort(stable=True)


def split(
    labels: Tensor, *, val_fraction: float, test_fraction: float, train_size: int | None, seed: int
) -> Splits:  # fmt: skip
    """Divide samples into train, validation and test by fractions of all of them.

    `train_size` keeps only the first so many training samples, in an order that makes these subsets nested, while
    validation and test stay the same. Raises ConfigError when a split would be empty or `train_size` too large.
    """
    total = len(labels)
    order = stratified_order(labels, seed=seed)
    num_test, num_validation = round(test_fraction * total), round(val_fraction * total)
    num_train = total - num_test - num_validation
    for key, fraction, size in (
        ("data.test_fraction", test_fraction, num_test),
        ("data.val_fraction", val_fraction, num_validation),
    ):
        if fraction > 0 and size == 0:
            raise ConfigError(f"{key}={fraction:g} of {total} samples is less than one sample; raise it")
    if num_train < 1:
        raise ConfigError(
            f"data.val_fraction and data.test_fraction leave none of the {total} samples for training; lower them"
        )
    if train_size is not None and train_size > num_train:
        raise ConfigError(
            f"data.train_size must be at most {num_train}, the samples left for training, got {train_size}; "
            "null uses them all"
        )
    test, validation, train = order[:num_test], order[num_test : num_test + num_validation], order[-num_train:]
    if train_size is not None:
        # Ordered anew, so that the prefix is spread over the classes from its own beginning.
        train = train[stratified_order(labels[train], seed=seed)[:train_size]]
    return Splits(train.sort().values, validation.sort().values, test.sort().values)
