"""A run with all that belongs to it, from the command line or from Python: training, test, and its page."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from mlplab.config.overrides import all_faults, composed, parsed, quoted
from mlplab.errors import ConfigError, first_line
from mlplab.report.report import write_run_page
from mlplab.runs.evaluate import Run, load_run
from mlplab.runs.folders import new_folder, short_path
from mlplab.runs.record import Record
from mlplab.runs.resume import run_and_checkpoint
from mlplab.runs.train import resume
from mlplab.runs.train import train as train_config
from mlplab.signals import Stopped

log = logging.getLogger(__name__)


def launch(config: DictConfig, *, overrides: Sequence[str] | None = None) -> Path:
    """Train as a config says, or continue the run that its key `resume` names, and write its page; gives its folder.

    A run without figures has no page. Raises as `mlplab.runs.train.train`.
    """
    if config.resume:
        folder, checkpoint = run_and_checkpoint(config.resume)
        resume(checkpoint or folder, overrides=overrides)
    else:
        folder = Path(config.folder)
        train_config(config, overrides=overrides)
    if getattr(rank_zero_only, "rank", 0) == 0 and (folder / "figures").is_dir():
        try:
            print(f"report       {short_path(write_run_page(folder, folder).page)}")
        except Exception as error:  # the run is finished, whatever becomes of its page
            log.warning("the page could not be written: %s: %s", type(error).__name__, first_line(error))
    return folder


def train(*overrides: str, name: str | None = None) -> Run:
    """Train, validate and test one network, as `python train.py` does with these overrides; gives the finished run.

    `train("data=moons", "model=mlp_dropout", "model.dropout=0.2", name="first")` writes outputs/train/first. With
    "resume=last", or the name of a run, that run goes on. The weights are those of the best checkpoint, where one is
    kept. Raises ConfigError for what is wrong with the overrides,
    RunFailed where training goes wrong, and KeyboardInterrupt, which says how to go on, where it is stopped.
    """
    lines = [*overrides, *([f"name={quoted(name)}"] if name else [])]
    given = parsed(lines)
    if faults := all_faults("train", given, sweep=False):
        raise ConfigError(*faults)
    if of_hydra := [str(one.input_line) for one in given if one.is_hydra_override()]:
        raise ConfigError(*(f"{line} is for the command line; here name=… names the folder" for line in of_hydra))
    if studies := [str(one.input_line) for one in given if one.key_or_group == "study"]:
        raise ConfigError(f"{studies[0]} is a sweep of many runs: mlplab.sweep({studies[0]!r})")
    config = composed("train", lines)
    if "ipykernel" in sys.modules and (strategy := config.trainer.get("strategy", "auto")) != "auto":
        raise ConfigError(
            f"trainer.strategy={strategy} starts processes, which a notebook cannot; "
            "leave it out here, or start python train.py in a terminal"
        )
    config.folder = new_folder(config.name, overrides)
    try:
        folder = launch(config, overrides=lines)
    except Stopped as stop:
        raise KeyboardInterrupt("; ".join([str(stop), *stop.advice])) from stop
    best = Record.read(folder).values["best_checkpoint"]
    return load_run(folder, checkpoint=Path(best).stem if best else "last")
