"""What a data set holds, and what training will be served of it: tables for the terminal, figures of samples."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from mlplab.config.rules import one_of
from mlplab.data.loader import GroupedBatches, InMemoryDataset
from mlplab.data.module import DataModule
from mlplab.data.statistics import Brightness, brightness
from mlplab.errors import ConfigError
from mlplab.figures.images import training_samples
from mlplab.figures.pictures import brightness_figure, figure_path, save, scatter
from mlplab.runs import build

NUM_EXTREMES = 10
MAX_CLASSES_SHOWN, MAX_FEATURES_SHOWN = 30, 8
TABLE: dict[str, Any] = {"show_edge": False, "pad_edge": False}


def inspect_data(config: DictConfig) -> None:
    """Print splits, shapes, updates per epoch and loaders of a data set; draw samples into `config.figure`.

    Raises ConfigError as training would, and when the figure cannot be written.
    """
    path = figure_path(config.figure)
    data = build.data_module(config)
    console = Console()
    tables = {"Samples": split_table(data), "Training": training_table(data), "DataLoader": loader_table(data)}
    for title, table in tables.items():
        console.print(title, "", table, "", sep="\n")
    figure = sample_figure(data)
    if path and figure:
        save(figure, path)
        console.print(f"figure  {path}", highlight=False, markup=False, soft_wrap=True)
    elif path:
        console.print(f"no figure: a sample is {data.num_features} numbers, neither an image nor a point in the plane")


def mean_brightness(config: DictConfig) -> Brightness:
    """Print the mean brightness of the images that `config.images` names; draw it into `config.figure`.

    "train" are all training images, those for validation among them; "test" are those of the official test set; "all"
    are both. Raises ConfigError for data without images or without a test set.
    """
    one_of("train", "test", "all").require("images", config.images)
    path = figure_path(config.figure)
    # Nobody is set aside, so that the training split is all there is beside an official test set.
    whole = {
        "val_fraction": 0.0, "test_fraction": 0.0, "train_size": None, "num_folds": None, "fold": None,
        "batch_size": "full", "normalize": False,
    }  # fmt: skip
    config = OmegaConf.merge(config, {"data": whole})  # type: ignore[assignment]
    data = build.data_module(config)
    if not data.source.is_images:
        raise ConfigError("data must be images, which have a brightness; choose data=digits, cifar10 or image_folder")
    splits = ["train", "test"] if config.images == "all" else [config.images]
    datasets = [data.datasets[split] for split in splits if len(data.datasets[split])]
    if not datasets:
        raise ConfigError("images=test: this data set has no official test set; choose images=train")
    result = brightness(datasets, batch_size=config.batch_size)

    console = Console()
    title = f"Mean brightness of {len(result.per_image):,} images, from 0 (black) to 1 (white)"
    console.print(title, "", sep="\n", highlight=False)
    console.print(brightness_table(result), "")
    if path:
        darkest = result.per_image.argsort(stable=True)[:NUM_EXTREMES]
        brightest = result.per_image.argsort(stable=True, descending=True)[:NUM_EXTREMES]
        figure = brightness_figure(
            result.per_image, mean=result.total, darkest=at(datasets, darkest), brightest=at(datasets, brightest)
        )
        save(figure, path)
        console.print(f"figure  {path}", highlight=False, markup=False, soft_wrap=True)
    return result


# Tables


def split_table(data: DataModule) -> Table:
    """How many samples of each class are in each split."""
    table = Table(**TABLE)
    table.add_column("class")
    for split in data.datasets:
        table.add_column(split, justify="right")
        table.add_column("share", justify="right")
    counts = {
        split: torch.bincount(dataset.labels[dataset.indices], minlength=data.num_classes)
        for split, dataset in data.datasets.items()
    }  # split → (classes,)
    for label, name in enumerate(data.source.class_names[:MAX_CLASSES_SHOWN]):
        table.add_row(escape(name), *shares({split: int(count[label]) for split, count in counts.items()}, counts))
    if data.num_classes > MAX_CLASSES_SHOWN:
        table.add_row(f"… {data.num_classes - MAX_CLASSES_SHOWN} more classes")
    table.add_section()
    table.add_row("all", *shares({split: int(count.sum()) for split, count in counts.items()}, counts))
    return table


def shares(numbers: dict[str, int], totals: dict[str, Tensor]) -> list[str]:
    """Each split's number, and which share of the split it is."""
    cells = []
    for split, number in numbers.items():
        total = int(totals[split].sum())
        cells += [f"{number:,}", f"{number / total:.1%}" if total else "–"]
    return cells


def training_table(data: DataModule) -> Table:
    """Shapes, types, normalization, and how many updates an epoch has."""
    features, labels = data.source.features, data.source.labels
    batch_shape, batch_type = (data.batch_size, *data.feature_shape), data.preprocess(features[:1]).dtype
    num_train = len(data.datasets["train"])
    rest = num_train % data.batch_size
    last = f", the last with {rest} samples" if rest else ""
    table = Table(show_header=False, **TABLE)
    names = f" ({', '.join(data.source.feature_names)})" if data.source.feature_names else ""
    for row in (
        ("stored sample", f"{data.feature_shape} {features.dtype}{names}"),
        ("stored values", f"{float(features.min()):g} to {float(features.max()):g}"),
        ("label", f"{labels.dtype}, 0 to {data.num_classes - 1}"),
        ("batch", f"{batch_shape} {batch_type}, after normalization"),
        ("subtracted mean", shown(data.mean)),
        ("divided by", shown(data.std)),
        ("outputs needed", f"{data.num_outputs}"),
        ("batch size", f"{data.batch_size:,} of {num_train:,} training samples"),
        ("updates per epoch", f"{data.updates_per_epoch:,}{last}"),
    ):
        table.add_row(*map(escape, row))
    return table


def shown(values: Tensor) -> str:
    """The first few values of a tensor of any shape."""
    flat = values.flatten().tolist()
    more = f" … ({len(flat)} in all)" if len(flat) > MAX_FEATURES_SHOWN else ""
    return " ".join(f"{value:.4f}" for value in flat[:MAX_FEATURES_SHOWN]) + more


def loader_table(data: DataModule) -> Table:
    """The attributes of the DataLoaders; every one serves whole batches, made by its batch sampler."""
    loaders: dict[str, Any] = {
        "train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()
    }  # fmt: skip
    loaders = {split: loader for split, loader in loaders.items() if loader}  # a split may be empty
    table = Table(**TABLE)
    table.add_column("attribute")
    for split in loaders:
        table.add_column(split)
    columns = [loader_facts(loader) for loader in loaders.values()]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def loader_facts(loader: Any) -> dict[str, str]:
    """Attribute → value of one DataLoader, as text."""
    batches: GroupedBatches = loader.batch_sampler
    return {
        "dataset": type(loader.dataset).__name__,
        "samples": f"{len(loader.dataset):,}",
        "batch size": f"{batches.batch_size:,}",
        "batches": f"{batches.num_batches:,}",
        "sampler": type(batches.sampler).__name__,
        "shuffled": str(batches.sampler.shuffle),
        "batch_sampler": type(batches).__name__,
        "num_workers": str(loader.num_workers),
        "drop_last": str(loader.drop_last),
        "pin_memory": str(loader.pin_memory),
    }


def brightness_table(result: Brightness) -> Table:
    """One row per channel, and their mean."""
    table = Table(**TABLE)
    table.add_column("channel")
    table.add_column("mean", justify="right")
    for name, value in result.per_channel.items():
        table.add_row(name, f"{value:.6f}")
    table.add_section()
    table.add_row("total", f"{result.total:.6f}")
    return table


# Figures


def sample_figure(data: DataModule) -> Figure | None:
    """The first samples of the first epoch: images, augmented if training does; points in the plane; else None."""
    train = data.datasets["train"]
    if data.feature_shape == (2,):
        names = data.source.feature_names or ("x₁", "x₂")
        return scatter(
            train.features[train.indices], train.labels[train.indices],
            class_names=data.source.class_names, axis_names=names,
        )  # fmt: skip
    return training_samples(data) if data.source.is_images else None


def at(datasets: Sequence[InMemoryDataset], positions: Tensor) -> Tensor:
    """The images (k, channels, height, width) at positions (k,) counted through all the data sets."""
    images = []
    for position in positions.tolist():
        for dataset in datasets:
            if position < len(dataset):
                images.append(dataset.features[dataset.indices[position]])
                break
            position -= len(dataset)
    return torch.stack(images)
