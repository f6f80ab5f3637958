"""Classes and probabilities of new inputs, from a run folder alone: the training data need not be there."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig

from mlplab.data.inputs import check_kind, read_inputs
from mlplab.errors import ConfigError, noted
from mlplab.files import read_checkpoint, write_atomically
from mlplab.runs.evaluate import Run, predictions, rebuilt
from mlplab.runs.folders import find_run, short_path


def predict(config: DictConfig) -> None:
    """Write one row per input to the CSV file `config.output`: name, predicted class, probability of every class.

    Raises ConfigError when the output exists (unless `config.overwrite`) or cannot be written, when the run folder is
    damaged, and when the input does not fit the run's network: all that can be found at the same time together.
    """
    source, output = Path(config.input), Path(config.output)
    run, inputs, faults = None, None, list[str]()
    with noted(faults):
        run = load_predictor(find_run(config.run), checkpoint=config.checkpoint)
    with noted(faults):
        if run is None:
            check_kind(source)  # all that can be said of the source alone
        else:
            data = run.data
            inputs = read_inputs(source, feature_shape=data.feature_shape, feature_names=data.feature_names)
    with noted(faults):
        check_output(output, source=source, overwrite=config.overwrite)
    if faults or run is None or inputs is None:
        raise ConfigError(*faults)

    table = predictions(run, inputs.features, batch_size=config.batch_size, accelerator=config.accelerator)
    table.insert(0, "name", inputs.names)
    try:
        # Nine digits tell any two float32 apart, so that the probabilities can be read back exactly.
        write_atomically(output, table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    except OSError as error:
        raise ConfigError(f"output={output} cannot be written: {error.strerror}; choose another file") from error

    counts = table["class"].value_counts()
    shown = pd.DataFrame({"inputs": counts, "share": (counts / len(table)).map("{:.1%}".format)})
    print(shown.rename_axis("predicted class").to_string(max_rows=20))
    print(f"\n{len(table):,} row{'s' * (len(table) != 1)} written to {output}, by {short_path(run.folder)}")


# The trained network, without its data


def training_data(path: Path) -> Any:
    """What a checkpoint says of the data that its network was trained on, under the names of a data module.

    Raises ConfigError when it holds no such facts.
    """
    checkpoint = read_checkpoint(path)
    try:
        state = checkpoint["DataModule"]
        shape, names = tuple(state["feature_shape"]), state["class_names"]
        broadcast = (1, -1, *[1] * (len(shape) - 1))  # per feature, or per channel
        return SimpleNamespace(
            mean=torch.tensor(state["mean"]).reshape(broadcast),
            std=torch.tensor(state["std"]).reshape(broadcast),
            class_names=names,
            feature_names=state["feature_names"],
            feature_shape=shape,
            num_features=math.prod(shape),
            num_classes=len(names),
            num_outputs=1 if len(names) == 2 else len(names),
            batch_size=1,
            updates_per_epoch=1,  # of no use here, but schedules ask for it
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path} does not say what data its network takes; was it made by train.py?") from error


def load_predictor(folder: Path, *, checkpoint: str = "best") -> Run:
    """Rebuild a run's network from its folder, in evaluation mode, with what its checkpoint says of its data.

    Raises ConfigError when the folder is no run, a file is damaged, or the checkpoint does not fit the config.
    """
    return rebuilt(folder, checkpoint, lambda config, path: training_data(path))


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
