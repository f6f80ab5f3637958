"""Classes and probabilities of new inputs, from a run folder alone: the training data need not be there."""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mlplab.config.check import config_faults, section_faults
from mlplab.config.keys import require
from mlplab.data.inputs import Inputs, check_kind, read_inputs
from mlplab.data.module import preprocess
from mlplab.data.types import Batch
from mlplab.errors import ConfigError, noted
from mlplab.files import read_checkpoint, write_atomically
from mlplab.runs import build
from mlplab.runs.checkpoints import load_weights
from mlplab.runs.record import Record

if TYPE_CHECKING:
    from mlplab.data.module import DataModule
    from mlplab.models.classifier import Classifier

MAX_CLASSES_SHOWN = 20


def predict(config: DictConfig) -> None:
    """Write one row per input to the CSV file `config.output`: name, predicted class, probability of every class.

    Raises ConfigError when the output exists (unless `config.overwrite`) or cannot be written, when the run folder is
    damaged, and when the input does not fit the run's network: all that can be found at the same time together.
    """
    for key in ("run", "input", "output"):
        require(key, config[key])
    require("overwrite", config.overwrite)
    source, output = Path(config.input), Path(config.output)
    run, inputs, faults = None, None, list[str]()
    with noted(faults):
        run = load_predictor(Path(config.run), checkpoint=config.checkpoint)
    with noted(faults):
        inputs = read_for(run, source)
    with noted(faults):
        check_output(output, source=source, overwrite=config.overwrite)
    if faults or run is None or inputs is None:
        raise ConfigError(*faults)

    names, features = inputs
    probabilities = run.probabilities(features, batch_size=config.batch_size, accelerator=config.accelerator)
    classes = [run.data.class_names[index] for index in probabilities.argmax(dim=1).tolist()]
    try:
        write_atomically(output, as_csv(names, classes, probabilities, run.data.class_names))
    except OSError as error:
        raise ConfigError(f"output={output} cannot be written: {error.strerror}; choose another file") from error
    show(classes, output)


# The trained network, without its data


@dataclass(frozen=True)
class TrainingData:
    """What prediction must know of the data that a network was trained on; every checkpoint holds it."""

    mean: Tensor
    std: Tensor
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    feature_shape: tuple[int, ...]
    updates_per_epoch: int = 1  # of no use here, but schedules ask for it

    @classmethod
    def read(cls, path: Path) -> "TrainingData":
        """From a checkpoint file. Raises ConfigError when it holds no such facts."""
        checkpoint = read_checkpoint(path)
        try:
            state = checkpoint["DataModule"]
            shape = tuple(state["feature_shape"])
            broadcast = (1, -1, *[1] * (len(shape) - 1))  # per feature, or per channel
            mean, std = (torch.tensor(state[name]).reshape(broadcast) for name in ("mean", "std"))
            return cls(mean, std, tuple(state["class_names"]), tuple(state["feature_names"]), shape)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path} does not say what data its network takes; was it made by train.py?") from error

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        return 1 if self.num_classes == 2 else self.num_classes

    @property
    def num_features(self) -> int:
        return math.prod(self.feature_shape)


@dataclass(frozen=True)
class Predictor:
    """A trained network, the config of its run, and what it must know of its training data."""

    model: "Classifier"
    config: DictConfig
    data: TrainingData

    def probabilities(self, features: Tensor, *, batch_size: int = 1000, accelerator: str = "auto") -> Tensor:
        """Class probabilities float32 (n, classes) of uint8 (n, channels, height, width) or float32 (n, features)."""

        def collate(samples: list[tuple[Tensor]]) -> list[Batch]:
            batch = preprocess(torch.stack([sample for (sample,) in samples]), self.data.mean, self.data.std)
            return [Batch(batch, labels=torch.zeros(len(batch), dtype=torch.int64))]  # no step reads these labels

        loader: Any = DataLoader(TensorDataset(features), batch_size=batch_size, collate_fn=collate)
        build.set_threads(self.config, self.model)
        trainer = build.evaluation_trainer(self.config, accelerator=accelerator)
        parts = trainer.predict(self.model, dataloaders=loader)
        return torch.cat(cast(list[Tensor], parts)).float()


def load_predictor(folder: Path, *, checkpoint: str = "best") -> Predictor:
    """Rebuild a run's network from its folder, in evaluation mode.

    Raises ConfigError when the folder is no run, a file is damaged, or the checkpoint does not fit the config.
    """
    record = Record.read(folder)
    config = record.config()
    if faults := section_faults(config) or config_faults(config):
        raise ConfigError(*(f"{folder}/config.yaml: {fault}" for fault in faults))
    path = record.checkpoint(checkpoint)
    data = TrainingData.read(path)
    model = build.classifier(config, cast("DataModule", data))  # which reads numbers of features and classes only
    load_weights(model, path)
    return Predictor(model.eval(), config, data)


def read_for(run: Predictor | None, source: Path) -> Inputs | None:
    """The inputs as the network takes them; without a network None, after what can be said of the source alone."""
    if run is None:
        check_kind(source)
        return None
    return read_inputs(source, feature_shape=run.data.feature_shape, feature_names=run.data.feature_names)


# The output


def check_output(output: Path, *, source: Path, overwrite: bool) -> None:
    """Raise ConfigError before anything is computed if the output could not be written, or must not be."""
    if output.is_dir():
        raise ConfigError(f"output={output} is a folder; give the path of a CSV file")
    if output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(f"output={output} is the input; choose another file")
    if output.exists() and not overwrite:
        raise ConfigError(f"output={output} exists; choose another file, or replace it with overwrite=true")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise ConfigError(f"output={output}: {output.parent} is not a folder that can be written to")


def as_csv(names: Sequence[str], classes: Sequence[str], probabilities: Tensor, class_names: Sequence[str]) -> str:
    """Nine digits tell any two float32 apart, so that the probabilities (n, classes) can be read back exactly."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["name", "class", *(f"p({name})" for name in class_names)])
    for name, label, row in zip(names, classes, probabilities.tolist(), strict=True):
        writer.writerow([name, label, *(f"{value:.9g}" for value in row)])
    return lines.getvalue()


def show(classes: Sequence[str], output: Path) -> None:
    """How many rows, how often each class was predicted, and where it is written."""
    counts = Counter(classes).most_common()
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("predicted class")
    table.add_column("inputs", justify="right")
    table.add_column("share", justify="right")
    for name, count in counts[:MAX_CLASSES_SHOWN]:
        table.add_row(escape(name), f"{count:,}", f"{count / len(classes):.1%}")
    if len(counts) > MAX_CLASSES_SHOWN:
        table.add_row(f"… {len(counts) - MAX_CLASSES_SHOWN} more classes", "", "")
    console = Console()
    console.print(table, "")
    rows = "row" if len(classes) == 1 else "rows"
    console.print(f"{len(classes):,} {rows} written to {output}", highlight=False, markup=False, soft_wrap=True)
