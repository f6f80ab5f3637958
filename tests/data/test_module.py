"""The data module: splits and loaders put together, normalization, augmentation in training only."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mlplab.data.augment import Augmentation
from mlplab.data.module import DataModule, normalization
from mlplab.data.sources import Source


def features_source(num_samples=100, num_features=3, num_classes=2):
    features = torch.randn(num_samples, num_features) * torch.tensor([1.0, 20.0, 0.01]) + torch.tensor([0.0, 500, -3])
    labels = torch.arange(num_samples) % num_classes
    return Source(features, labels, tuple("abcdefghij"[:num_classes]), ("x", "y", "z"))


def image_source(num_samples=60, num_test=None, num_classes=3):
    def images(num):
        spread = torch.tensor([256, 100, 20])[:, None, None]
        return (torch.rand(num, 3, 6, 5) * spread).to(torch.uint8), torch.arange(num) % num_classes

    features, labels = images(num_samples)
    test_features, test_labels = images(num_test) if num_test else (None, None)
    names = tuple("abcdefghij"[:num_classes])
    return Source(features, labels, names, test_features=test_features, test_labels=test_labels)


def module(source=None, *, group_size=1, updates=None, **options):
    made = features_source() if source is None else source
    data = DataModule(lambda: made, **{"batch_size": 8} | options)
    data.updates_per_epoch = updates or data.updates_per_epoch
    data.group_size = min(group_size, data.updates_per_epoch)
    return data


def in_training(data, epoch=0, *, training=True):
    """What the module needs to know of Lightning's Trainer."""
    data.trainer = SimpleNamespace(
        training=training,
        current_epoch=epoch,
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data


def served(data, loader):
    return [batch for group in loader for batch in data.on_after_batch_transfer(group, 0)]


def positions(loader):
    return torch.cat([group[2] for group in loader])


def test_splits_are_of_all_samples():
    data = module(val_fraction=0.2, test_fraction=0.1)
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 70, "val": 20, "test": 10}
    indices = torch.cat([split.indices for split in data.datasets.values()])
    assert indices.sort().values.tolist() == list(range(100))
    other = module(val_fraction=0.2, test_fraction=0.1, order_seed=1)
    assert torch.equal(indices, torch.cat([split.indices for split in other.datasets.values()]))
    assert not torch.equal(positions(data.train_dataloader()), positions(other.train_dataloader()))


def test_an_official_test_set_is_the_test_split_as_a_whole():
    source = image_source(num_test=12)
    data = module(source, val_fraction=0.1, test_fraction=0.5)
    assert {name: len(split) for name, split in data.datasets.items()} == {"train": 54, "val": 6, "test": 12}
    assert data.datasets["test"].features is source.test_features


def test_folds_leave_an_official_test_set_apart():
    source = image_source(num_test=12)
    folds = [module(source, num_folds=4, fold=fold).datasets for fold in range(4)]
    for datasets in folds:
        assert {name: len(split) for name, split in datasets.items()} == {"train": 45, "val": 15, "test": 12}
    assert torch.cat([datasets["val"].indices for datasets in folds]).sort().values.tolist() == list(range(60))


def test_fewer_updates_per_epoch_are_of_training_only():
    data = module(updates=3, group_size=2, eval_batch_size=5)
    assert len(served(data, data.train_dataloader())) == len(served(data, data.val_dataloader())) == 3
    assert (data.samples_seen(7), data.smallest_batch) == (2 * 24 + 8, 8)
    assert (module().samples_seen(10), module().smallest_batch) == (70 + 8, 6)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_uses_its_own_batch_size_in_a_fixed_order(split):
    data = module(batch_size=1, eval_batch_size=6, group_size=50)
    loader = getattr(data, f"{split}_dataloader")()
    assert [len(batch.labels) for batch in served(data, loader)] == [6, 6, 3]
    assert positions(loader).tolist() == list(range(15))
    labels = torch.cat([batch.labels for batch in served(data, loader)])
    assert torch.equal(labels, data.source.labels[data.datasets[split].indices])


# Normalization


@pytest.mark.parametrize("make", [features_source, image_source])
@pytest.mark.parametrize("normalize", [True, False])
def test_samples_are_scaled_and_normalized_as_by_numpy(make, normalize):
    source = make(200)
    data = module(source, batch_size="full", eval_batch_size=1000, normalize=normalize)
    scale, axes = (255, (0, 2, 3)) if source.is_images else (1, 0)
    stored = source.features.numpy().astype(np.float64) / scale
    train = stored[data.datasets["train"].indices]
    mean, std = (train.mean(axis=axes, keepdims=True), train.std(axis=axes, keepdims=True)) if normalize else (0, 1)
    np.testing.assert_allclose(data.mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(data.std.numpy(), std, rtol=1e-6)
    for split, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
        (batch,) = served(data, loader)
        assert batch.features.dtype == torch.float32
        expected = (stored[data.datasets[split].indices] - mean) / std
        np.testing.assert_allclose(batch.features.numpy(), expected[positions(loader)], atol=2e-5)


@pytest.mark.parametrize("make", [features_source, image_source])
def test_statistics_are_of_the_training_split_only(make):
    source = make()
    before = module(source)
    for split in ("val", "test"):
        source.features[before.datasets[split].indices] = 77
    after = module(source)
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.std, after.std)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1.7e9])
def test_a_feature_that_never_varies_has_the_standard_deviation_one(value):
    features = torch.stack([torch.full((999,), value), torch.rand(999)], dim=1)
    mean, std = normalization(features)
    assert std[0] == 1
    assert mean[0].item() == pytest.approx(value)
    assert std[1] < 0.5


def test_a_channel_that_never_varies_has_the_standard_deviation_one():
    levels = torch.arange(256, dtype=torch.uint8)
    images = levels[None, :, None, None].expand(7, 256, 3, 3)
    mean, std = normalization(images)
    assert (std == 1).all()
    torch.testing.assert_close(mean.flatten(), levels / 255)


# Augmentation


def test_training_samples_are_augmented():
    source = image_source()
    data = in_training(module(source, augmentation=Augmentation(flip=1), normalize=False, batch_size="full"))
    (batch,) = served(data, data.train_dataloader())
    raw = source.features[data.datasets["train"].indices][positions(data.train_dataloader())]
    torch.testing.assert_close(batch.features, raw.flip(3) / 255)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_is_never_augmented(split):
    plain = module(image_source(), eval_batch_size=7)
    data = in_training(module(plain.source, eval_batch_size=7, augmentation=Augmentation(flip=1)), training=False)
    ours, theirs = (served(each, getattr(each, f"{split}_dataloader")()) for each in (data, plain))
    assert all(torch.equal(one.features, two.features) for one, two in zip(ours, theirs, strict=True))


def augmented(epoch=0, *, order_seed=0, **options):
    """Each training sample as it looks in an epoch, (n, …), in the order of the split."""
    torch.manual_seed(0)
    data = module(
        image_source(), augmentation=Augmentation(flip=0.5, crop=2, rotate=20), order_seed=order_seed, **options
    )
    in_training(data, epoch)
    loader = data.train_dataloader()
    loader.batch_sampler.sampler.set_epoch(epoch)
    features = torch.cat([batch.features for batch in served(data, loader)])
    return features[positions(loader).argsort()]


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": "full"}, {"group_size": 4}, {"batch_size": 5, "group_size": 2}]
)
def test_a_sample_looks_the_same_whatever_batch_it_is_in(options):
    assert torch.equal(augmented(3, **options), augmented(3))


def test_samples_look_different_in_every_epoch_and_under_every_seed():
    looks = [augmented(0), augmented(1), augmented(0, order_seed=1)]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        same = (looks[one] == looks[two]).flatten(1).all(dim=1)
        assert same.float().mean() < 0.2


@pytest.mark.parametrize("group_size", [1, 3])
def test_samples_are_mixed_with_others_of_their_own_batch_after_all_else(group_size):
    both = [Augmentation(flip=0.5, crop=1, mixup=mixup) for mixup in (0.0, 0.4)]
    source, options = image_source(), {"batch_size": 5, "group_size": group_size}
    modules = [in_training(module(source, augmentation=one, **options)) for one in both]
    plain, mixed = (served(data, data.train_dataloader()) for data in modules)
    order, numbers = positions(modules[1].train_dataloader()), modules[1]._epoch_uniforms(0)
    assert torch.equal(numbers[:, :6], modules[0]._epoch_uniforms(0)[:, :6])
    for before, after, chosen in zip(plain, mixed, order.split(5), strict=True):
        expected = both[1].mix(before, numbers[chosen], num_classes=3)
        assert torch.equal(after.features, expected.features)
        assert torch.equal(after.labels, expected.labels)


# State


def test_what_a_source_draws_is_the_same_each_time_and_touches_no_stream(monkeypatch):
    def fail(*_):
        raise AssertionError("a GPU's stream was touched")

    monkeypatch.setattr("torch.cuda.manual_seed_all", fail)

    def source():
        numbers = torch.rand(20, 2) + torch.from_numpy(np.random.rand(20, 2)).float() + random.random()
        return Source(numbers, torch.arange(20) % 2, ("a", "b"))

    state = torch.get_rng_state()
    first, second = DataModule(source, batch_size=4), DataModule(source, batch_size=4)
    assert torch.equal(first.source.features, second.source.features)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_without_samples_is_named(caplog):
    DataModule(lambda: Source(torch.rand(20, 2), torch.arange(20) % 2, ("a", "b", "c")), batch_size=4)
    said = [
        f"data: none of the {number} {name} samples is of class 'c'"
        for number, name in ((14, "train"), (3, "val"), (3, "test"))
    ]
    assert caplog.messages == said


def test_state_is_plain_data_that_prediction_needs():
    data = module(image_source())
    state = json.loads(json.dumps(data.state_dict()))
    assert state["class_names"] == ["a", "b", "c"]
    assert (data.num_features, state["feature_shape"], data.num_classes, data.num_outputs) == (90, [3, 6, 5], 3, 3)
    assert torch.equal(torch.tensor(state["mean"]), data.mean.flatten())
    assert torch.equal(torch.tensor(state["std"]), data.std.flatten())
    data = module()
    assert data.state_dict()["feature_names"] == ["x", "y", "z"]
    assert (data.num_features, data.feature_shape, data.num_classes, data.num_outputs) == (3, (3,), 2, 1)
