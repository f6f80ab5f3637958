"""The splits: a partition, stratified, nested, and a function of the split seed alone."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from mlplab.data.splits import split
from mlplab.errors import ConfigError

BALANCED = torch.arange(1000) % 10
DEFAULTS = {"val_fraction": 0.15, "test_fraction": 0.15, "train_size": None, "seed": 0}


def random_labels(seed):
    """A label vector of any length, number of classes and imbalance."""
    generator = np.random.default_rng(seed)
    num_classes = int(generator.integers(2, 12))
    shares = generator.dirichlet(np.full(num_classes, generator.choice([0.3, 1.0, 100.0])))
    return torch.from_numpy(generator.choice(num_classes, int(generator.integers(20, 400)), p=shares))


def deviations(labels, indices):
    """By how many samples each class differs from its proportional share."""
    counts = torch.bincount(labels, minlength=12).double()
    return torch.bincount(labels[indices], minlength=12) - counts * len(indices) / len(labels)


@pytest.mark.parametrize("seed", range(40))
def test_any_labels_are_divided_into_disjoint_and_complete_splits(seed):
    labels = random_labels(seed)
    splits = split(labels, val_fraction=0.2, test_fraction=0.1, train_size=None, seed=seed)
    assert torch.cat(splits).sort().values.tolist() == list(range(len(labels)))
    assert len(splits.validation) == round(0.2 * len(labels))
    assert len(splits.test) == round(0.1 * len(labels))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_balanced_classes_are_stratified_to_within_one_sample(seed, num_classes):
    labels = (torch.arange(40 * num_classes) % num_classes)[torch.randperm(40 * num_classes)]
    for indices in split(labels, val_fraction=0.13, test_fraction=0.22, train_size=17 * num_classes + 1, seed=seed):
        assert deviations(labels, indices).abs().max() <= 1


@pytest.mark.parametrize("labels", [BALANCED, torch.cat([torch.arange(12).repeat(4), random_labels(3)])])
@pytest.mark.parametrize("options", [{}, {"num_folds": 2, "fold": 1}], ids=["fraction", "fold"])
def test_larger_training_subsets_contain_smaller_ones(labels, options):
    options = DEFAULTS | options
    full = split(labels, **options).train
    inner: set[int] = set()
    for size in (1, 2, 7, 10, len(full) // 2, len(full) - 1, len(full)):
        outer = set(split(labels, **options | {"train_size": size}).train.tolist())
        assert len(outer) == size
        assert inner < outer
        inner = outer
    assert inner == set(full.tolist())


def test_validation_and_test_depend_on_neither_train_size_nor_each_other():
    whole = split(BALANCED, **DEFAULTS)
    part = split(BALANCED, **DEFAULTS | {"train_size": 20})
    assert torch.equal(whole.validation, part.validation)
    assert torch.equal(whole.test, part.test)
    assert torch.equal(whole.test, split(BALANCED, **DEFAULTS | {"val_fraction": 0.4}).test)
    assert torch.equal(whole.test, cross_validation(BALANCED, 5, val_fraction=0.9)[0].test)


@pytest.mark.parametrize("options", [{}, {"num_folds": 5, "fold": 2}])
def test_splits_are_a_function_of_their_seed_alone(options):
    options = DEFAULTS | options
    first = split(BALANCED, **options)
    torch.manual_seed(123)
    np.random.seed(123)
    state = torch.get_rng_state()
    again, other = split(BALANCED, **options), split(BALANCED, **options | {"seed": 1})
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
    assert torch.equal(torch.get_rng_state(), state)


# Cross-validation


def cross_validation(labels, num_folds, **options):
    return [split(labels, **DEFAULTS | options, num_folds=num_folds, fold=fold) for fold in range(num_folds)]


@pytest.mark.parametrize("num_folds", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_each_sample_outside_the_test_set_validates_exactly_once(seed, num_folds):
    labels = torch.cat([torch.arange(12).repeat(8), random_labels(seed)])  # at least 8 of each class
    folds = cross_validation(labels, num_folds, seed=seed)
    test = folds[0].test
    assert torch.cat([fold.validation for fold in folds] + [test]).sort().values.tolist() == list(range(len(labels)))
    for fold in folds:
        assert torch.equal(fold.test, test)
        assert torch.cat(fold).sort().values.tolist() == list(range(len(labels)))


@pytest.mark.parametrize("seed", range(5))
def test_folds_hold_as_many_of_each_class_as_those_of_scikit_learn(seed):
    labels = torch.cat([torch.arange(12).repeat(5), random_labels(seed)])
    ours = [fold.validation for fold in cross_validation(labels, 5, test_fraction=0.0)]
    theirs = [validation for _, validation in StratifiedKFold(5).split(labels, labels)]
    for fold, reference in zip(ours, theirs, strict=True):
        assert abs(len(fold) - len(reference)) <= 1
        assert deviations(labels, fold).abs().max() < 1
        assert (torch.bincount(labels[fold]) - torch.bincount(labels[reference])).abs().max() <= 1


@pytest.mark.parametrize(
    ("labels", "options", "named"),
    [
        (torch.tensor([0] * 20 + [1] * 4), {"test_fraction": 0.0}, "num_folds=5 needs .* the rarest has 4"),
        (torch.tensor([0] * 20 + [1] * 5), {"test_fraction": 0.4}, "num_folds=5 needs .* the rarest has 3"),
        (BALANCED, {"train_size": 681}, "data.train_size must be at most 680"),
    ],
)
def test_folds_that_cannot_be_are_refused(labels, options, named):
    with pytest.raises(ConfigError, match=named):
        cross_validation(labels, 5, **options)
