"""What mlplab is measured against: training as people write it by hand, and Lightning as templates use it.

All train the same network with the same optimizer on the same samples in batches of the same size, and validate once
an epoch in large batches. Each gives the seconds of every epoch, validation included.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy
from torchvision import transforms

from mlplab.data.module import DataModule
from mlplab.models.classifier import Classifier

EPOCHS = 2
VAL_BATCH_SIZE = 4000


class Workload(NamedTuple):
    """What all train: a config of train.py, the data and the classifier that mlplab makes of it, and the device."""

    config: DictConfig
    data: DataModule
    classifier: Classifier
    device: torch.device

    def network(self) -> Any:
        """The bare layers as one writes them: linear, ReLU and dropout, repeated, and an output layer."""
        return copy.deepcopy(self.classifier.network.layers).to(self.device)

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr=self.config.optimizer.lr)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        binary, several = nn.functional.binary_cross_entropy_with_logits, nn.functional.cross_entropy
        return (binary if self.data.num_outputs == 1 else several)(logits, labels)

    def dataset(self, split: str) -> TensorDataset:
        """All samples of a split as normalized floats, and labels as the loss wants them."""
        dataset = self.data.datasets[split]
        labels = dataset.labels[dataset.indices]
        labels = labels.float()[:, None] if self.data.num_outputs == 1 else labels
        return TensorDataset(self.data.preprocess(dataset.features[dataset.indices]), labels)

    def train_loader(self) -> DataLoader:
        """Over tensors, or over images that torchvision augments one by one."""
        dataset = TransformedImages(self.data) if self.data.augmentation else self.dataset("train")
        return DataLoader(dataset, batch_size=self.data.batch_size, shuffle=True)


class TransformedImages(TensorDataset):
    """Training images as torchvision's data sets serve them: each a PIL image, transformed when it is asked for."""

    def __init__(self, data: DataModule) -> None:
        train, augmentation = data.datasets["train"], data.augmentation
        super().__init__(train.features[train.indices].permute(0, 2, 3, 1), train.labels[train.indices])
        self.transform = transforms.Compose([
            transforms.RandomHorizontalFlip(augmentation.flip),
            transforms.RandomCrop(data.feature_shape[1:], padding=augmentation.crop),
            transforms.ToTensor(),
            transforms.Normalize(data.mean.flatten().tolist(), data.std.flatten().tolist()),
        ])  # fmt: skip

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image, label = super().__getitem__(index)
        return self.transform(Image.fromarray(image.numpy())), label


def loop_over_loader(work: Workload) -> list[float]:
    """The loop of the course: `for features, labels in DataLoader(TensorDataset(…), shuffle=True)`."""
    loader = work.train_loader()
    return loop(work, lambda: ((features.to(work.device), labels.to(work.device)) for features, labels in loader))


def loop_over_tensors(work: Workload, **options: int) -> list[float]:
    """The faster loop: all samples as floats on the device, batches by indexing a permutation; it never augments."""
    features, labels = (tensor.to(work.device) for tensor in work.dataset("train").tensors)
    size, n = work.data.batch_size, len(labels)

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        return ((features[i], labels[i]) for i in torch.randperm(n, device=work.device).split(size))

    return loop(work, batches, **options)


def loop(
    work: Workload, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], *, epochs: int = EPOCHS, every: int = 1
) -> list[float]:  # fmt: skip
    """Forward, loss, backward and step for each of the batches of an epoch; the validation accuracy `every` epochs."""
    network = work.network()
    optimizer = work.optimizer(network)
    val = [tensor.to(work.device).split(VAL_BATCH_SIZE) for tensor in work.dataset("val").tensors]
    seconds = []
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        network.train()
        for features, labels in batches():
            loss = work.loss(network(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for features, labels in zip(*val, strict=True) if epoch % every == 0 else ():
                logits = network(features)
                ((logits > 0 if logits.shape[1] == 1 else logits.argmax(dim=1)) == labels).sum().item()
        seconds.append(now(work.device) - start)
    return seconds


class PlainModule(pl.LightningModule):
    """A LightningModule as templates write it: automatic optimization, torchmetrics logged, a progress bar."""

    def __init__(self, work: Workload) -> None:
        super().__init__()
        self.work, self.network, classes = work, work.network(), work.data.num_classes
        accuracy = BinaryAccuracy() if classes == 2 else MulticlassAccuracy(classes, average="micro")
        metrics = {"train_acc": accuracy, "val_acc": accuracy.clone()}
        self.metrics: Any = nn.ModuleDict({"train_loss": MeanMetric(), "val_loss": MeanMetric(), **metrics})

    def step(self, split: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        features, labels = batch
        logits = self.network(features)
        loss = self.work.loss(logits, labels)
        loss_metric, accuracy = self.metrics[f"{split}_loss"], self.metrics[f"{split}_acc"]
        loss_metric(loss)
        accuracy(logits.sigmoid() if logits.shape[1] == 1 else logits.argmax(dim=1), labels.int())
        self.log(f"{split}/loss", loss_metric, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step("val", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.work.optimizer(self.network)


def plain_lightning(work: Workload) -> list[float]:
    """Lightning with TensorBoard, checkpoints and the rich progress bar."""
    callbacks = [clock := EpochClock(), ModelCheckpoint(), RichProgressBar()]
    trainer = pl.Trainer(
        accelerator=work.device.type, devices=1, max_epochs=EPOCHS, log_every_n_steps=10, enable_model_summary=False,
        logger=TensorBoardLogger(tempfile.mkdtemp()), callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(PlainModule(work), work.train_loader(), DataLoader(work.dataset("val"), batch_size=VAL_BATCH_SIZE))
    return clock.seconds


class EpochClock(pl.Callback):
    """The seconds of each training epoch, its validation included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = now(pl_module.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds.append(now(pl_module.device) - self.start)


def now(device: torch.device) -> float:
    """The clock's seconds, once a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
