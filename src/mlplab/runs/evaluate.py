"""A finished run, read back: load it into a notebook, or evaluate it on one of its splits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint
from mlplab.models.classifier import Classifier
from mlplab.runs import build
from mlplab.runs.checkpoints import load_weights
from mlplab.runs.facts import TITLES, score_table
from mlplab.runs.record import Record


class Run(NamedTuple):
    """What a run folder holds: the trained model, its data, the config and the metrics of `result.json`."""

    model: Classifier
    data: Any
    config: DictConfig
    metrics: dict[str, float]


def load_run(folder: str | Path, *, checkpoint: str = "best") -> Run:
    """Rebuild a run from its folder alone, with the weights of its best (or last) checkpoint, in evaluation mode.

    Raises ConfigError when the folder is no run, a file is damaged, or the checkpoint does not fit the config.
    """
    return rebuilt(Path(folder), checkpoint, lambda config, path: build.data_module(config))


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
    return Run(model.eval(), data, config, record.values["metrics"])


def evaluate(config: DictConfig) -> dict[str, float]:
    """Loss and accuracy of a run's checkpoint on `config.split`, the same numbers as training gave.

    A look at the test set is counted in the run's `result.json`.
    """
    record, split = Record.read(Path(config.run)), config.split
    run = load_run(record.folder, checkpoint=config.checkpoint)
    if not len(run.data.datasets[split]):
        raise ConfigError(f"split={split}: this run has no samples in it; choose another")
    build.set_threads(run.config, run.model)
    trainer = build.evaluation_trainer(run.config, accelerator=config.accelerator)
    run.data.tested_split = split
    trainer.test(run.model, datamodule=run.data, verbose=False)
    metrics = {f"{split}/{name}": float(trainer.callback_metrics[f"test/{name}"]) for name in ("loss", "acc")}
    if split == "test":
        record.count_test()
    updates = read_checkpoint(record.checkpoint(config.checkpoint))["global_step"]
    title = f"{TITLES[split]} ({config.checkpoint} checkpoint)"
    console = Console()
    console.print(f"{config.checkpoint}.ckpt, saved after update {updates:,}", "", sep="\n", highlight=False)
    console.print(score_table([(title, updates / run.data.updates_per_epoch, split)], metrics))
    return metrics
