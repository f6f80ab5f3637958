"""A finished run, read back: load it into a notebook, or evaluate it on one of its splits."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from mlplab.config.check import config_faults, section_faults
from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint
from mlplab.runs import build
from mlplab.runs.checkpoints import load_weights
from mlplab.runs.record import Record

if TYPE_CHECKING:
    from mlplab.data.module import DataModule
    from mlplab.models.classifier import Classifier


class Run(NamedTuple):
    """What a run folder holds: the trained model, its data, the config and the metrics of `result.json`."""

    model: "Classifier"
    data: "DataModule"
    config: DictConfig
    metrics: dict[str, float]


def load_run(folder: str | Path, *, checkpoint: str = "best") -> Run:
    """Rebuild a run from its folder alone, with the weights of its best (or last) checkpoint, in evaluation mode.

    Raises ConfigError when the folder is no run, a file is damaged, or the checkpoint does not fit the config.
    """
    record = Record.read(Path(folder))
    config = record.config()
    if "metrics" not in record.values:
        raise ConfigError(f"{record.folder}/result.json is not the record of a run: it has no metrics")
    if faults := section_faults(config) or config_faults(config):
        raise ConfigError(*(f"{record.folder}/config.yaml: {fault}" for fault in faults))
    data = build.data_module(config)
    model = build.classifier(config, data)
    load_weights(model, record.checkpoint(checkpoint))
    return Run(model.eval(), data, config, record.values["metrics"])


def evaluate(config: DictConfig) -> dict[str, float]:
    """Loss and accuracy of a run's checkpoint on `config.split`, the same numbers as training gave.

    A look at the test set is counted in the run's `result.json`.
    """
    folder, split = Path(config.run), config.split
    run = load_run(folder, checkpoint=config.checkpoint)
    if not len(run.data.datasets[split]):
        raise ConfigError(f"split={split}: this run has no samples in it; choose another")
    build.set_threads(run.config, run.model)
    trainer = build.evaluation_trainer(run.config, accelerator=config.accelerator)
    run.data.tested_split = split
    trainer.test(run.model, datamodule=run.data, verbose=False)
    metrics = {f"{split}/{name}": float(trainer.callback_metrics[f"test/{name}"]) for name in ("loss", "acc")}
    if split == "test":
        Record.read(folder).count_test()
    console = Console()
    seen = read_checkpoint(Record.read(folder).checkpoint(config.checkpoint))["global_step"]
    console.print(f"{config.checkpoint}.ckpt, saved after update {seen:,}", highlight=False)
    for name, value in metrics.items():
        console.print(f"{name:10} {value:.6f}", highlight=False)
    return metrics
