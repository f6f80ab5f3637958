"""A finished run, read back: load it into a notebook, or evaluate it on one of its splits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor, nn

from mlplab.callbacks.history import HISTORY
from mlplab.data.augment import shift
from mlplab.data.inputs import samples_as_features
from mlplab.data.loader import Batch
from mlplab.data.module import DataModule, preprocess
from mlplab.errors import ConfigError, did_you_mean
from mlplab.files import read_checkpoint
from mlplab.models.classifier import Classifier
from mlplab.runs import build
from mlplab.runs.checkpoints import check_data, load_weights
from mlplab.runs.facts import TITLES, score_table
from mlplab.runs.folders import find_run, short_path
from mlplab.runs.record import Record


class Run(NamedTuple):
    """What a run folder holds: the trained model, its data, the config and the metrics of `result.json`."""

    model: Classifier
    data: Any
    config: DictConfig
    metrics: dict[str, float]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.config.folder)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the columns of probabilities."""
        return list(self.data.class_names)

    @property
    def history(self) -> pd.DataFrame:
        """A row for each validation: losses, accuracies, learning rate, norms, time."""
        return pd.read_csv(self.folder / HISTORY)

    def predict(self, features: Any) -> pd.DataFrame:
        """Class and probability of every class for each sample.

        `features` are a frame with the columns of the training data, or an array or tensor: (n, features), or uint8
        images (n, channels, height, width). Raises ConfigError where they do not fit the network.
        """
        shape, names = self.data.feature_shape, self.data.feature_names
        return predictions(self, samples_as_features(features, feature_shape=shape, feature_names=names))

    def plot(self, name: str | None = None) -> Any:
        """One of the figures of the run folder as a matplotlib figure; without a name, a list of those there are."""
        there = {path.stem: path for path in sorted((self.folder / "figures").glob("*.png"))}
        if name is None:
            return list(there)
        if name not in there:
            known = ", ".join(there) or "none, as with figures=none"
            raise ConfigError(f"no figure {name!r}{did_you_mean(name, there)}; there are: {known}")
        return picture(there[name])


def load_run(run: str | Path, *, checkpoint: str = "best") -> Run:
    """Rebuild a run with the weights of its best (or last) checkpoint, in evaluation mode, from its folder alone.

    `run` is a folder, the name of a run, or "last".
    Raises ConfigError when the folder is no run, a file is damaged, the checkpoint does not fit the config, or the data
    are not those that the run was trained on.
    """

    def data_of(config: DictConfig, path: Path) -> DataModule:
        data = build.data_module(config)
        check_data(data, Record.read(folder), path)
        return data

    folder = find_run(run)
    return rebuilt(folder, checkpoint, data_of)


def rebuilt(folder: Path, checkpoint: str, data_of: Callable[[DictConfig, Path], Any]) -> Run:
    """The same, with the data that `data_of` makes from the config and the path of the checkpoint."""
    record = Record.read(folder)
    config = record.config()
    if "metrics" not in record.values:
        raise ConfigError(f"{folder}/result.json is not the record of a run: it has no metrics")
    record.check(config)
    path = record.checkpoint(checkpoint)
    data = data_of(config, path)
    model = build.classifier(config, data)
    load_weights(model, path)
    config.folder = str(folder)  # which may have been moved
    return Run(model.eval(), data, config, record.values["metrics"])


def predictions(run: Run, features: Tensor, **options: Any) -> pd.DataFrame:
    """Predicted class, and the probability of every class, of samples as they are stored; a row for each."""
    shares = probabilities(run, features, **options)
    table = pd.DataFrame(shares.numpy(), columns=[f"p({name})" for name in run.class_names])
    table.insert(0, "class", [run.class_names[index] for index in shares.argmax(dim=1).tolist()])
    return table


def probabilities(run: Run, features: Tensor, *, batch_size: int = 1000, accelerator: str = "auto") -> Tensor:
    """Class probabilities float32 (n, classes) of uint8 (n, channels, height, width) or float32 (n, features)."""
    parts = (preprocess(part, run.data.mean, run.data.std) for part in features.split(batch_size))
    batches: Any = ([Batch(part, labels=torch.zeros(len(part)))] for part in parts)  # no step reads these labels
    build.set_threads(run.config, run.data, run.model)
    trainer = build.evaluation_trainer(run.config, accelerator=accelerator)
    return torch.cat(cast(list[Tensor], trainer.predict(run.model, dataloaders=batches))).float()


def picture(path: Path) -> Any:
    """A PNG file as a matplotlib figure of its size, which a notebook shows by itself."""
    import matplotlib.pyplot as plt  # here, since only figures need it: it tells notebooks how to show them
    from matplotlib.figure import Figure

    pixels = plt.imread(path)
    figure = Figure(figsize=(pixels.shape[1] / 110, pixels.shape[0] / 110), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels)
    axes.axis("off")
    return figure


def evaluate(config: DictConfig) -> dict[str, float]:
    """Loss and accuracy of a run's checkpoint on `config.split`, the same numbers as training gave.

    With `config.views` also those of the mean over several views of each image, as `<split>/<views>/loss` and `/acc`.
    A look at the test set is counted in the run's `result.json`, which nobody else may write meanwhile: raises
    ConfigError where the run is still trained.
    """
    record = Record.read(find_run(config.run))
    if config.split != "test":
        return scores_of(record, config)
    record.lock()
    try:
        record.values = Record.read(record.folder).values
        return scores_of(record, config)
    finally:
        record.release()


def scores_of(record: Record, config: DictConfig) -> dict[str, float]:
    """What `evaluate` gives, and prints."""
    run, split, views = load_run(record.folder, checkpoint=config.checkpoint), config.split, config.views
    if not len(run.data.datasets[split]):
        raise ConfigError(f"split={split}: this run has no samples in it; choose another")
    if views and not run.data.source.is_images:
        raise ConfigError(
            f"views={views} needs images, and this run was trained on features without places; leave it out"
        )
    build.set_threads(run.config, run.data, run.model)
    trainer = build.evaluation_trainer(run.config, accelerator=config.accelerator)
    run.data.tested_split = split

    def scores(name: str) -> dict[str, float]:
        trainer.test(run.model, datamodule=run.data, verbose=False)
        return {f"{name}/{value}": float(trainer.callback_metrics[f"test/{value}"]) for value in ("loss", "acc")}

    metrics = scores(split)
    if views:
        black = run.data.preprocess(torch.zeros(1, *run.data.feature_shape, dtype=torch.uint8))
        run.model.network = MeanOfViews(run.model.network, views=VIEWS[views], black=black)
        metrics |= scores(f"{split}/{views}")
    if split == "test":
        record.count_test()
    looks = f"; look {len(record.values['test_evaluations'])} at the test set" if split == "test" else ""
    path = record.checkpoint(config.checkpoint)
    updates = read_checkpoint(path)["global_step"]
    title, epoch = f"{TITLES[split]} ({config.checkpoint} checkpoint)", updates / run.data.updates_per_epoch
    rows = [(title, epoch, split), (f"the same, mean over views={views}", epoch, f"{split}/{views}")]
    console = Console()
    console.print(f"{short_path(path)}, saved after update {updates:,}{looks}\n", highlight=False, soft_wrap=True)
    console.print(score_table(rows, metrics))
    return metrics


# Several views of an image


View = tuple[bool, int, int]
"""Whether an image is mirrored, and by how many steps it is moved down and right."""
PLACES = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
VIEWS: dict[str, list[View]] = {
    "flip": [(False, 0, 0), (True, 0, 0)],
    "shift": [(False, *place) for place in PLACES],
    "flip_and_shift": [(mirrored, *place) for mirrored in (False, True) for place in PLACES],
}
"""What `views=` says → the views."""
STEPS = 16
"""A step is the size of an image divided by this, in whole pixels, at least one."""


class MeanOfViews(nn.Module):
    """The mean of a network's logits over views of each image.

    Images are normalized; `black` (1, channels, height, width) is a black one, which fills what a shift leaves empty.
    """

    def __init__(self, network: nn.Module, *, views: Sequence[View], black: Tensor) -> None:
        super().__init__()
        self.network, self.views, self.black = network, views, black

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) → logits (batch, outputs)."""
        return torch.stack([self.network(self._seen(images, *view)) for view in self.views]).mean(dim=0)

    def _seen(self, images: Tensor, mirrored: bool, down: int, right: int) -> Tensor:
        if down or right:
            black, steps = self.black.to(images.device), [max(1, size // STEPS) for size in images.shape[2:]]
            ones = torch.ones(len(images), dtype=torch.int64, device=images.device)
            pixels = [ones * step * count for step, count in zip(steps, (down, right), strict=True)]
            images = shift(images - black, *pixels, reach=max(steps)) + black
        return images.flip(3) if mirrored else images
