"""The frame around every command: starts one run or a sweep, and words the errors.

A user's mistake ends in one line per fault and exit code 2, a run that fails in exit code 1, neither with a traceback;
HYDRA_FULL_ERROR=1 shows it. Nothing here imports torch, so `--help` and config errors answer at once.
"""

import errno
import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.check import CONF
from mlplab.errors import ConfigError, RunFailed, first_line
from mlplab.runs.record import Record
from mlplab.runs.resume import requeued_run, run_and_checkpoint
from mlplab.signals import Stopped
from mlplab.sweeps.command_line import (
    check_command_line,
    gather_paths,
    help_text,
    parse_arguments,
    quoted_overrides,
    quoted_path,
)
from mlplab.sweeps.sweeper import run_sweep

FULL_ERROR = "HYDRA_FULL_ERROR"
NOT_TO_BE_USED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def command(
    config_name: str, *, bare_paths: str | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:  # fmt: skip
    """Make a function of the composed config the program's entry point, under `conf/<config_name>.yaml`.

    Paths among the arguments that are no value of any key become the list of the key `bare_paths`.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        show_traceback = os.environ.get(FULL_ERROR) == "1"

        @functools.wraps(function)
        def task(config: DictConfig) -> Any:
            try:
                return function(config)
            except Stopped as stop:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise  # ends the other jobs too
                leave(stop)
            except Exception as error:
                if show_traceback or HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise  # the other jobs of a multirun go on; Hydra names the one that failed
                leave(error)

        def entry_point() -> None:
            os.environ[FULL_ERROR] = "1"  # Hydra hands errors on to us instead of printing them
            sys.argv[1:] = map(quoted_overrides, map(quoted_path, sys.argv[1:]))
            try:
                if config_name == "train":
                    continue_in_its_folder()
                if bare_paths:
                    sys.argv[1:] = gather_paths(sys.argv[1:], bare_paths)
                arguments = parse_arguments()
                if arguments.help:
                    print_help(help_text(config_name))
                elif grid := check_command_line(config_name, arguments):
                    sys.exit(run_sweep(config_name, grid, function))
                else:
                    say_loading()
                    hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(task)()
            except Stopped as stop:
                leave(stop)
            except Exception as error:
                if show_traceback:
                    raise
                leave(error)
            finally:
                os.environ[FULL_ERROR] = "1" if show_traceback else "0"

        return entry_point

    return decorate


def print_help(text: str) -> None:
    """Print the help, of which a reader such as `head` or `less` may take only a part."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # what is left goes nowhere; otherwise Python tries again when it ends, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_loading() -> None:
    """Tell a person who waits, and nobody else, why nothing seems to happen for some seconds."""
    if sys.stderr.isatty() and "torch" not in sys.modules and "LOCAL_RANK" not in os.environ:
        print("loading libraries …", file=sys.stderr)


def leave(error: BaseException) -> NoReturn:
    """Print what went wrong, one line each, and end with the exit code for it."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    if isinstance(error, Stopped):
        print(error, *error.advice, sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)
    if isinstance(error, RunFailed):
        lines, code = str(error).splitlines(), 1
    elif isinstance(error, ConfigError):
        lines, code = list(error.faults), 2
    elif isinstance(error, HydraException | OmegaConfBaseException):
        lines, code = [first_line(error)], 2
    elif isinstance(error, OSError) and error.filename and error.errno in NOT_TO_BE_USED:
        lines, code = [f"{error.filename}: {error.strerror}; check the path and its permissions"], 2
    else:
        lines, code = [f"{type(error).__name__}: {error} ({FULL_ERROR}=1 shows where)"], 1
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


def continue_in_its_folder() -> None:
    """With `resume=`, or as a job that SLURM starts again, let Hydra work in the run's own folder."""
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    task = [override for override in overrides if not override.startswith(("hydra.", "hydra/"))]
    if run := requeued_run(Path("outputs/train"), task):
        sys.argv.append(f"resume='{run}'")
    asked = [argument.partition("=")[2].strip("'\"") for argument in sys.argv if argument.startswith("resume=")]
    if asked and asked[-1] not in ("", "null"):
        folder, _ = run_and_checkpoint(asked[-1])
        Record.read(folder)  # before Hydra makes a folder of that name
        sys.argv.append(f"hydra.run.dir='{folder}'")
