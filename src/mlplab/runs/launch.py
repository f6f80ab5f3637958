"""A run from Python, as from the command line."""

from pathlib import Path

from mlplab.config.overrides import all_faults, composed, parsed, quoted
from mlplab.errors import ConfigError
from mlplab.runs.evaluate import Run, load_run
from mlplab.runs.folders import new_folder
from mlplab.runs.resume import run_and_checkpoint
from mlplab.runs.train import resume
from mlplab.runs.train import train as train_config
from mlplab.signals import Stopped


def train(*overrides: str, name: str | None = None) -> Run:
    """Train, validate and test one network, as `python train.py` does with these overrides; gives the finished run.

    `train("data=moons", "model=mlp_dropout", "model.dropout=0.2", name="first")` writes outputs/train/first. With
    "resume=last", or the name of a run, that run goes on. Raises ConfigError for what is wrong with the overrides,
    RunFailed where training goes wrong, and KeyboardInterrupt, which says how to go on, where it is stopped.
    """
    lines = [*overrides, *([f"name={quoted(name)}"] if name else [])]
    given = parsed(lines)
    if faults := all_faults("train", given, sweep=False):
        raise ConfigError(*faults)
    if launch := [str(one.input_line) for one in given if one.is_hydra_override()]:
        raise ConfigError(*(f"{line} is for the command line; here name=… names the folder" for line in launch))
    config = composed("train", lines)
    try:
        if config.resume:
            folder, _ = run_and_checkpoint(config.resume)
            resume(config.resume, overrides=lines)
        else:
            config.folder = new_folder(config.name)
            folder = Path(config.folder)
            train_config(config, overrides=lines)
    except Stopped as stop:
        raise KeyboardInterrupt("; ".join([str(stop), *stop.advice])) from stop
    return load_run(folder)
