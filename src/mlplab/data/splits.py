"""Seeded, stratified index sets. The test set is set apart first and depends on nothing but the split seed."""

from typing import NamedTuple

import torch
from torch import Tensor

from mlplab.errors import ConfigError


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
    labels: Tensor, *, val_fraction: float, test_fraction: float, train_size: int | None, seed: int,
    num_folds: int | None = None, fold: int | None = None,
) -> Splits:  # fmt: skip
    """Divide samples into train, validation and test by fractions of all of them.

    With `num_folds`, what the test set leaves is divided into so many folds instead, of which number `fold` (from 0)
    is the validation set and the others are for training; `val_fraction` is not used then. `train_size` keeps only the
    first so many training samples, in an order that makes these subsets nested, while validation and test stay the
    same. Raises ConfigError when a split would be empty, `train_size` too large, or there are too many folds.
    """
    order = stratified_order(labels, seed=seed)
    num_test = size_of("data.test_fraction", test_fraction, labels)
    test, rest = order[:num_test], order[num_test:]
    if num_folds is None:
        num_validation = size_of("data.val_fraction", val_fraction, labels)
        validation, train = rest[:num_validation], rest[num_validation:]
    else:
        folds = stratified_folds(rest, labels, num_folds=num_folds)
        validation, train = rest[folds == fold], rest[folds != fold]
    if len(train) < 1:
        raise ConfigError(
            f"data.val_fraction and data.test_fraction leave none of the {len(labels)} samples for training; lower them"
        )
    if train_size is not None and train_size > len(train):
        raise ConfigError(
            f"data.train_size must be at most {len(train)}, the samples left for training, got {train_size}; "
            "null uses them all"
        )
    if train_size is not None:
        # Ordered anew, so that the prefix is spread over the classes from its own beginning.
        train = train[stratified_order(labels[train], seed=seed)[:train_size]]
    return Splits(train.sort().values, validation.sort().values, test.sort().values)


def size_of(key: str, fraction: float, labels: Tensor) -> int:
    """The fraction of all samples, rounded. Raises ConfigError where that is none of them though some were wanted."""
    size = round(fraction * len(labels))
    if fraction > 0 and size == 0:
        raise ConfigError(f"{key}={fraction:g} of {len(labels)} samples is less than one sample; raise it")
    return size


def stratified_folds(indices: Tensor, labels: Tensor, *, num_folds: int) -> Tensor:
    """The fold, from 0 to `num_folds` − 1, of each of the `indices` (n,), which must be in random order.

    The samples are dealt out class after class, so that folds differ by at most one sample, in each class and in all:
    the numbers of scikit-learn's StratifiedKFold. Raises ConfigError where a class has fewer samples than folds.
    """
    rarest = int(torch.bincount(labels[indices], minlength=int(labels.max()) + 1)[labels.unique()].min())
    if num_folds > rarest:
        raise ConfigError(
            f"data.num_folds={num_folds} needs as many samples of every class, but the rarest has {rarest} outside "
            "the test set; lower data.num_folds"
        )
    folds = torch.empty_like(indices)
    folds[labels[indices].argsort(stable=True)] = torch.arange(len(indices)) % num_folds
    return folds
