"""Starting what the command line asks for, once all of it is checked. Nothing here imports torch before that."""

import argparse
import contextlib
import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mlplab import cluster
from mlplab.cli.arguments import help_text, own_words, print_help, read, stray_faults
from mlplab.cli.words import ASKED, FULL_ERROR, SHOW_TRACEBACK, errors_in_words
from mlplab.config.check import CONF
from mlplab.config.overrides import all_faults, composed, hydra_started, parsed, quoted, values
from mlplab.errors import ConfigError
from mlplab.runs.folders import new_folder
from mlplab.runs.resume import continued_config, requeued_run, run_and_checkpoint
from mlplab.sweeps.grid import with_params

Command = Callable[[DictConfig], Any]


def start(config_name: str, function: Command, *, bare_paths: str | None) -> None:
    """Do what the command line says.

    `train` is started by Hydra, which knows run folders, multiruns and launchers; the others only have their config
    composed.
    """
    if not CONF.is_dir():
        raise ConfigError("this copy of mlplab has no configs; in the folder of train.py: python -m pip install -e .")
    given = read(sys.argv[1:], bare_paths)
    if given.help:
        print_help(help_text(config_name))
    elif faults := list(stray_faults(config_name, given.overrides)):
        raise ConfigError(*faults)
    elif config_name == "train" or given.shows:
        start_hydra(config_name, function, given)
    else:
        compose_and_call(config_name, function, given)


def compose_and_call(config_name: str, function: Command, given: argparse.Namespace) -> None:
    """Call the function with its config; in a multirun with one after the other, of every combination of the values."""
    with hydra_started():
        overrides = check(config_name, given)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        say_loading()
        for lines in itertools.product(*map(values, overrides)):
            function(composed(config_name, lines))


def start_hydra(config_name: str, function: Command, given: argparse.Namespace) -> None:
    """Let Hydra do what the command line says, once it is checked: a run, a multirun, or showing something."""
    if not given.shows:
        if asked := [line for line in given.overrides if line.lstrip("+").startswith("hydra.job.chdir=")]:
            print(f"{asked[0]} has no effect: paths are relative to the folder of the command", file=sys.stderr)
            given.overrides = [line for line in given.overrides if line not in asked]
        with hydra_started():
            overrides = check(config_name, given)
            given.overrides += continuing(given.overrides)
        say_loading()
        if not given.multirun and not any(one.is_sweep_override() for one in overrides):
            import mlplab.runs.train  # noqa: F401  before Hydra makes the run's folder; a sweep does it itself

    @functools.wraps(function)  # by which Hydra names the job
    def task(config: DictConfig) -> None:
        with errors_in_words():
            function(config)

    sys.argv[1:] = [*given.options, *given.overrides]
    os.environ |= {ASKED: str(int(SHOW_TRACEBACK)), FULL_ERROR: "1"}  # Hydra hands errors on to us, unprinted
    is_asked_by_tab = given.shell_completion and any(line.startswith("query=") for line in given.overrides)
    with own_words(config_name) if is_asked_by_tab else contextlib.nullcontext():
        hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(task)()


def say_loading() -> None:
    """Tell a person who waits, and nobody else, why nothing seems to happen for some seconds."""
    if sys.stderr.isatty() and "torch" not in sys.modules and "LOCAL_RANK" not in os.environ:
        print("loading libraries …", file=sys.stderr)


def check(config_name: str, given: argparse.Namespace) -> list[Override]:
    """The overrides, those of a study's grid among them, once they are found to be right. Hydra must be started.

    Raises ConfigError with all faults of the command line and of the config, or of all configs of a multirun.
    """
    overrides = parsed(given.overrides)
    fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
    study = [line for line in fixed if line.startswith("study=")]
    for lines in (fixed, study, []):  # a study is also seen beside what does not compose
        with contextlib.suppress(HydraException, OmegaConfBaseException, ValueError):
            shared = compose(config_name, lines, return_hydra_config=True)
            break
    sweeps = given.multirun or shared.hydra.mode == RunMode.MULTIRUN
    if sweeps and config_name == "train":
        overrides = with_params(shared, overrides)
    if faults := all_faults(config_name, overrides, sweep=sweeps):
        raise ConfigError(*faults)
    keys = {override.key_or_group for override in overrides}
    if sweeps and "resume" in keys:
        raise ConfigError("resume continues one run; to continue a multirun, repeat its command with sweep=…")
    if sweeps and config_name == "train" and "name" in keys:
        raise ConfigError("name is of one run; a multirun is named by sweep=…")
    return overrides


def continuing(overrides: Sequence[str]) -> list[str]:
    """What `resume=` adds, or for a job that SLURM starts again its unfinished run: Hydra works in the run's folder.

    Raises ConfigError where the run cannot be continued as the overrides say. Hydra must be started.
    """
    of_task = [line for line in overrides if not line.startswith(("hydra.", "hydra/"))]
    run = requeued_run(folder_of_launch(overrides), of_task)
    added = [f"resume={quoted(run)}"] if run else []
    asked = [one.value() for one in parsed([*overrides, *added]) if one.key_or_group == "resume"]
    if not asked or not asked[-1]:
        return []
    run, checkpoint = run_and_checkpoint(str(asked[-1]))
    continued_config(run, [*overrides, *added])
    return [f"resume={quoted(checkpoint or run)}", f"hydra.run.dir={quoted(run)}"]


def folder_of_launch(overrides: Sequence[str]) -> Path | None:
    """The folder that a launch names, or that its several processes have in common; None where a new one is made.

    Raises ConfigError where several processes have none in common.
    """
    given = {one.key_or_group: one.value() for one in parsed(overrides) if not one.is_sweep_override()}
    together = cluster.launch_of_several()
    if folder := given.get("resume") or given.get("hydra.run.dir"):
        return Path(str(folder))
    if together == "":
        raise ConfigError("these processes need one folder: torchrun --rdzv-id=<name of the job> …, or hydra.run.dir=…")
    return Path(new_folder(str(given.get("name") or ""))) if together else None
