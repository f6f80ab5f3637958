"""What mlplab is measured against: training as people write it by hand, and Lightning as templates use it.

All train the same network with the same optimizer on the same samples in batches of the same size, and validate once
an epoch in large batches. Each gives the seconds of every epoch, validation included.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy
from torchvision import transforms

from mlplab.data.module import DataModule


@dataclass(frozen=True)
class Workload:
    """One thing to train: data, the widths of a ReLU network, dropout, the optimizer's rate, and the device."""

    data: DataModule
    hidden_sizes: tuple[int, ...]
    dropout: float
    learning_rate: float
    augment: bool
    device: torch.device

    def network(self) -> nn.Module:
        """The network as one writes it: linear, ReLU and dropout, repeated, and an output layer."""
        layers: list[nn.Module] = [nn.Flatten()]
        width = self.data.num_features
        for next_width in self.hidden_sizes:
            layers += [nn.Linear(width, next_width), nn.ReLU()]
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            width = next_width
        return nn.Sequential(*layers, nn.Linear(width, self.data.num_outputs)).to(self.device)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.data.num_outputs == 1:
            return nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return nn.functional.cross_entropy(logits, labels)

    def tensors(self, split: str) -> tuple[Tensor, Tensor]:
        """All samples of a split as normalized floats, and labels as the loss wants them."""
        dataset = self.data.datasets[split]
        labels = dataset.labels[dataset.indices]
        labels = labels.float()[:, None] if self.data.num_outputs == 1 else labels
        return self.data.preprocess(dataset.features[dataset.indices]), labels

    def train_dataset(self) -> Dataset:
        """For loops over a DataLoader: tensors, or images that torchvision transforms one by one."""
        if not self.augment:
            return TensorDataset(*self.tensors("train"))
        return TransformedImages(self.data)


class TransformedImages(Dataset):
    """Training images as torchvision's data sets serve them: each a PIL image, transformed when it is asked for."""

    def __init__(self, data: DataModule) -> None:
        dataset = data.datasets["train"]
        self.images = dataset.features[dataset.indices].permute(0, 2, 3, 1).numpy()
        self.labels = dataset.labels[dataset.indices]
        options = data.augmentation
        self.transform = transforms.Compose([
            transforms.RandomHorizontalFlip(options.flip),
            transforms.RandomCrop(self.images.shape[1], padding=options.crop),
            transforms.ToTensor(),
            transforms.Normalize(data.mean.flatten().tolist(), data.std.flatten().tolist()),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loop_over_loader(work: Workload, *, epochs: int) -> list[float]:
    """(1) The loop of the course: `for features, labels in DataLoader(TensorDataset(…), shuffle=True)`."""
    network = work.network()
    optimizer = torch.optim.SGD(network.parameters(), lr=work.learning_rate)
    loader = DataLoader(work.train_dataset(), batch_size=work.data.batch_size, shuffle=True)
    val = [tensor.to(work.device) for tensor in work.tensors("val")]
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        network.train()
        for features, labels in loader:
            loss = work.loss(network(features.to(work.device)), labels.to(work.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        validate(network, *val)
        synchronize(work.device)
        seconds.append(time.perf_counter() - start)
    return seconds


def loop_over_tensors(work: Workload, *, epochs: int) -> list[float]:
    """(2) The faster loop: all samples as floats on the device, batches by indexing a permutation."""
    network = work.network()
    optimizer = torch.optim.SGD(network.parameters(), lr=work.learning_rate)
    features, labels = (tensor.to(work.device) for tensor in work.tensors("train"))
    val = [tensor.to(work.device) for tensor in work.tensors("val")]
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        network.train()
        for indices in torch.randperm(len(labels), device=work.device).split(work.data.batch_size):
            loss = work.loss(network(features[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        validate(network, *val)
        synchronize(work.device)
        seconds.append(time.perf_counter() - start)
    return seconds


@torch.no_grad()
def validate(network: nn.Module, features: Tensor, labels: Tensor) -> float:
    """Accuracy in batches of 4,000."""
    network.eval()
    hits = 0.0
    for batch, truth in zip(features.split(4000), labels.split(4000), strict=True):
        logits = network(batch)
        predicted = (logits > 0).float() if logits.shape[1] == 1 else logits.argmax(dim=1)
        hits += (predicted == truth).float().sum().item()
    return hits / len(labels)


class PlainModule(pl.LightningModule):
    """(3) A LightningModule as templates write it: automatic optimization, torchmetrics logged, a progress bar."""

    def __init__(self, work: Workload) -> None:
        super().__init__()
        self.work, self.network = work, work.network()
        classes = work.data.num_classes
        metrics = [BinaryAccuracy() if classes == 2 else MulticlassAccuracy(classes, average="micro") for _ in range(2)]
        self.train_acc, self.val_acc = metrics
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()

    def step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        features, labels = batch
        logits = self.network(features)
        predicted = logits.sigmoid() if logits.shape[1] == 1 else logits.argmax(dim=1)
        return self.work.loss(logits, labels), predicted, labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, predicted, labels = self.step(batch)
        self.train_loss(loss)
        self.train_acc(predicted, labels.int())
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, predicted, labels = self.step(batch)
        self.val_loss(loss)
        self.val_acc(predicted, labels.int())
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), lr=self.work.learning_rate)


def plain_lightning(work: Workload, *, epochs: int, folder: Path) -> list[float]:
    """(3) Lightning with TensorBoard, checkpoints and the rich progress bar."""
    clock = EpochClock()
    trainer = plain_trainer(work, folder=folder, callbacks=[clock, ModelCheckpoint(), RichProgressBar()], epochs=epochs)
    loader = DataLoader(work.train_dataset(), batch_size=work.data.batch_size, shuffle=True)
    trainer.fit(PlainModule(work), loader, val_loader(work, batch_size=4000))
    return clock.seconds


def plain_validation(work: Workload, *, folder: Path) -> float:
    """Seconds that plain Lightning takes to validate at the training batch size, as templates do."""
    trainer = plain_trainer(work, folder=folder, callbacks=[], epochs=1)
    module, loader = PlainModule(work), val_loader(work, batch_size=work.data.batch_size)
    start = time.perf_counter()
    trainer.validate(module, loader, verbose=False)
    return time.perf_counter() - start


def plain_trainer(work: Workload, *, folder: Path, callbacks: list[Callback], epochs: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator=work.device.type,
        devices=1,
        max_epochs=epochs,
        log_every_n_steps=10,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="plain"),
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, RichProgressBar) for callback in callbacks),
    )


def val_loader(work: Workload, *, batch_size: int) -> DataLoader:
    return DataLoader(TensorDataset(*work.tensors("val")), batch_size=batch_size)


class EpochClock(Callback):
    """The seconds of each training epoch, its validation included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        synchronize(pl_module.device)
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        synchronize(pl_module.device)
        self.seconds.append(time.perf_counter() - self.start)


def synchronize(device: torch.device) -> None:
    """Wait for a GPU to have finished, so that a clock reads the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
