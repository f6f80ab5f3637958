"""The LightningDataModule: a source, split, batched, scaled to float, normalized and augmented."""

import logging
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader

from mlplab.data.augment import NUM_UNIFORMS, Augmentation
from mlplab.data.loader import Batch, EpochOrder, GroupedBatches, InMemoryDataset, Samples, epoch_generator, make_loader
from mlplab.data.sources import Source
from mlplab.data.splits import split
from mlplab.errors import ConfigError

log = logging.getLogger(__name__)


class DataModule(pl.LightningDataModule):
    """Serves train, validation and test batches of any `Source`.

    `batch_size` counts the samples of one update over all processes ("full": the whole training set); evaluation uses
    `eval_batch_size`. `val_fraction` and `test_fraction` are of all samples; where an official test set exists, it is
    the test split and `test_fraction` is ignored. `train_size` keeps a nested subset of the training samples.
    With `num_folds`, validation is fold number `fold` of all but the test set, and `val_fraction` is not used.
    `split_seed` decides who is in which split, `order_seed` the order and augmentation of each epoch.
    Raises ConfigError for fractions, sizes and augmentation that do not fit the data.
    """

    def __init__(
        self, source: Callable[[], Source], *, batch_size: int | str = 32, eval_batch_size: int = 1000,
        val_fraction: float = 0.15, test_fraction: float = 0.15, train_size: int | None = None, split_seed: int = 0,
        num_folds: int | None = None, fold: int | None = None, normalize: bool = True,
        augmentation: Augmentation | None = None, num_workers: int = 0, order_seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        with isolate_rng(include_cuda=False):  # what it draws is the same in each run, and changes no other stream
            torch.default_generator.manual_seed(0)  # torch's own manual_seed is also of other devices
            np.random.seed(0)
            random.seed(0)
            self.source = data = source()
        self.eval_batch_size, self.num_workers, self.order_seed = eval_batch_size, num_workers, order_seed
        self.augmentation = augmentation or Augmentation()
        if self.augmentation and not data.is_images:
            raise ConfigError(
                "data.augmentation needs images, but this data set has features without places; "
                "choose another regularization, or data=digits, cifar10, mnist or image_folder"
            )
        if self.augmentation.crop >= min(data.features.shape[2:], default=math.inf):
            raise ConfigError(
                f"data.augmentation.crop must be less than the images' size, {min(data.features.shape[2:])}, "
                f"got {self.augmentation.crop}"
            )
        if self.augmentation.mixup and (len(data.class_names) == 2 or batch_size == 1):
            needed = "three classes or more" if batch_size != 1 else "batches of two samples or more"
            raise ConfigError(f"data.augmentation.mixup={self.augmentation.mixup:g} needs {needed}; set it to 0")
        train, validation, test = split(
            data.labels, val_fraction=val_fraction, test_fraction=test_fraction if data.test_features is None else 0.0,
            train_size=train_size, seed=split_seed, num_folds=num_folds, fold=fold,
        )  # fmt: skip
        indices = {"train": train, "val": validation, "test": test}
        self.datasets = {name: InMemoryDataset(data.features, data.labels, part) for name, part in indices.items()}
        if data.test_features is not None and data.test_labels is not None:
            self.datasets["test"] = InMemoryDataset(data.test_features, data.test_labels)
        self.batch_size = len(train) if batch_size == "full" else int(batch_size)
        if self.batch_size > len(train):
            raise ConfigError(
                f"data.batch_size must be at most {len(train)}, the number of training samples, got {batch_size}; "
                "batching=full_batch uses them all in every update"
            )
        self.class_names, self.feature_names = data.class_names, data.feature_names
        self.feature_shape = tuple(data.features.shape[1:])  # (features,) or (channels, height, width)
        self.num_features, self.num_classes = math.prod(self.feature_shape), len(data.class_names)
        self.num_outputs = 1 if self.num_classes == 2 else self.num_classes  # logits that a network needs
        for name, dataset in self.datasets.items():
            counts = dataset.labels[dataset.indices].bincount(minlength=self.num_classes)
            if len(dataset) and not counts.all():
                rarest = self.class_names[int(counts.argmin())]
                log.warning("data: none of the %d %s samples is of class %r", len(dataset), name, rarest)
        shape = (1, -1, 1, 1)[: data.features.ndim]
        unchanged = torch.zeros(self.feature_shape[0]), torch.ones(self.feature_shape[0])
        mean, std = normalization(data.features[train]) if normalize else unchanged
        self.mean, self.std = mean.reshape(shape), std.reshape(shape)
        self.updates_per_epoch = -(-len(train) // self.batch_size)  # mlplab.runs may set fewer
        self.group_size = 1  # updates that share one pass through the framework; mlplab.runs sets how many
        self.tested_split = "test"  # what `Trainer.test` evaluates; mlplab.runs.evaluate sets another
        self.span = 1  # epochs that Lightning takes for one; mlplab.runs sets how many
        self.done = (0, 0)  # the first epoch of a span, and how many of its updates an earlier launch has made
        self._uniforms: tuple[int, Tensor] | None = None  # (epoch, (samples, NUM_UNIFORMS))

    @property
    def smallest_batch(self) -> int:
        """Samples in the last batch of an epoch, which may be smaller than the others."""
        return min(len(self.datasets["train"]) - (self.updates_per_epoch - 1) * self.batch_size, self.batch_size)

    def samples_seen(self, updates: int) -> int:
        """How many samples so many updates have used, a sample counted once per epoch."""
        epochs, rest = divmod(updates, self.updates_per_epoch)
        per_epoch = min(len(self.datasets["train"]), self.updates_per_epoch * self.batch_size)
        return epochs * per_epoch + rest * self.batch_size

    def state_dict(self) -> dict[str, Any]:
        """What prediction needs to know of the data, kept in every checkpoint as plain values."""
        return {
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "class_names": list(self.source.class_names),
            "feature_names": list(self.source.feature_names),
            "feature_shape": list(self.feature_shape),
        }

    # Loaders. Lightning calls these; outside a Trainer they work as well (one process).

    def train_dataloader(self) -> DataLoader | list:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader | list:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader | list:
        return self._loader(self.tested_split)

    def _loader(self, split: str, *, shuffle: bool = False) -> DataLoader | list:
        """For training where it shuffles, else for evaluation; an empty list for a split without samples."""
        dataset, trainer = self.datasets[split], self.trainer
        if not len(dataset):
            return []
        options: dict[str, Any] = {"batch_size": self.eval_batch_size}
        if shuffle:
            options = {
                "batch_size": self.batch_size, "group_size": self.group_size, "max_batches": self.updates_per_epoch,
                "done": self.done,
            }  # fmt: skip
        device = torch.device("cpu")
        if trainer is not None:
            options |= {"rank": trainer.global_rank, "world_size": trainer.world_size}
            device = trainer.strategy.root_device
        on_gpu = device.type == "cuda"
        # Data that take less than half of a GPU's free memory live there.
        if on_gpu and self.num_workers == 0 and dataset.features.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            dataset = InMemoryDataset(dataset.features.to(device), dataset.labels.to(device), dataset.indices)
        order = EpochOrder(len(dataset), seed=self.order_seed, shuffle=shuffle)
        if shuffle:
            order.epoch, order.span = self.done[0], self.span
        return make_loader(
            dataset,
            GroupedBatches(order, **options),
            num_workers=self.num_workers if shuffle else 0,  # evaluation is a few large gathers
            pin_memory=on_gpu and dataset.features.device != device,
        )

    # What becomes of a batch on its way to the network.

    def transfer_batch_to_device(self, batch: Samples, device: torch.device, dataloader_idx: int) -> Samples:
        """Move what is computed with; Lightning's own way visits every number of the sizes and weights as well."""
        features, labels, *rest = batch
        return features.to(device, non_blocking=True), labels.to(device, non_blocking=True), *rest  # type: ignore[return-value]

    def on_after_batch_transfer(self, batch: Samples, dataloader_idx: int) -> list[Batch]:
        """On the device: augment (training only), scale, normalize, and divide the group into its batches."""
        features, labels, positions, sizes, weights = batch
        uniforms = None
        if self.trainer is not None and self.trainer.training and self.augmentation:
            uniforms = self._epoch_uniforms(self.trainer.current_epoch)[positions.cpu()].to(features.device)
            features = self.augmentation(features, uniforms)
        parts = self.preprocess(features).split(sizes), labels.split(sizes), weights
        batches = [Batch(*samples) for samples in zip(*parts, strict=True)]
        if uniforms is None or not self.augmentation.mixup:
            return batches
        mix = partial(self.augmentation.mix, num_classes=self.num_classes)
        return [mix(*samples) for samples in zip(batches, uniforms.split(sizes), strict=True)]

    def preprocess(self, features: Tensor) -> Tensor:
        """Scale to float and normalize: uint8 (n, channels, height, width) or float32 (n, features) → float32."""
        return preprocess(features, self.mean, self.std)

    def augmented(self, positions: Tensor, *, epoch: int) -> Tensor:
        """Training images at positions (n,) of the split, as they are augmented in an epoch: uint8 as stored."""
        dataset = self.datasets["train"]
        return self.augmentation(dataset.features[dataset.indices[positions]], self._epoch_uniforms(epoch)[positions])

    def _epoch_uniforms(self, epoch: int) -> Tensor:
        """The random numbers for every sample's augmentation in this epoch: a function of (seed, epoch, sample)."""
        if self._uniforms is None or self._uniforms[0] != epoch:
            # + 2**31 epochs: a stream of its own, apart from the one that shuffles (generators use 32 bits of a seed).
            generator = epoch_generator(self.order_seed, epoch + 2**31)
            num_samples = len(self.datasets["train"])
            # Mixup's numbers come last, so that the others are what they were before there was mixup.
            drawn = [torch.rand(num_samples, count, generator=generator) for count in (NUM_UNIFORMS - 1, 1)]
            self._uniforms = epoch, torch.cat(drawn, dim=1)
        return self._uniforms[1]


def preprocess(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(features − mean) / std in float32; uint8 images are scaled from 0–255 to 0–1 first.

    `mean` and `std` hold one value per channel or feature, shaped to broadcast over the batch.
    """
    mean, std = mean.to(features.device), std.to(features.device)
    if features.dtype != torch.uint8:
        return (features.float() - mean) / std
    # One pass, in place; factors for every pixel instead of every channel make it five times as fast on a CPU.
    floats, shape = features.float(), (1, *features.shape[1:])
    scale, shift = (factors.expand(shape).contiguous() for factors in (1 / (255 * std), -mean / std))
    return torch.addcmul(shift, floats, scale, out=floats)


def normalization(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of samples, (channels,) on a scale of 0–1 or (features,), exact in float64.

    A channel or feature that never varies gets the standard deviation 1.
    """
    if features.ndim == 4:
        # Counting the 256 levels of each channel needs no float copy of the images.
        counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in features.unbind(1)])
        levels = torch.arange(256, dtype=torch.float64) / 255
        share = counts.double() / counts.sum(dim=1, keepdim=True)  # (channels, 256)
        mean = share @ levels
        variance = share @ levels.square() - mean.square()
        varies = counts.count_nonzero(dim=1) > 1
    else:
        mean, variance = features.double().mean(dim=0), features.double().var(dim=0, correction=0)
        varies = features.amin(dim=0) < features.amax(dim=0)
    return mean.float(), torch.where(varies, variance.clamp(min=0).sqrt(), 1.0).float()
