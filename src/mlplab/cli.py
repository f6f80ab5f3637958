"""The frame around every command: starts one run or a sweep, and words the errors.

A user's mistake ends in one line per fault and exit code 2, a run that fails in exit code 1, neither with a traceback;
HYDRA_FULL_ERROR=1 shows it. Nothing here imports torch, so `--help` and config errors answer at once.
"""

import argparse
import contextlib
import errno
import functools
import itertools
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.check import CONF
from mlplab.config.overrides import available_choices, composed, values
from mlplab.errors import ConfigError, RunFailed, first_line
from mlplab.signals import Stopped
from mlplab.sweeps import command_line

FULL_ERROR = "HYDRA_FULL_ERROR"
SHOW_TRACEBACK = os.environ.get(FULL_ERROR) == "1"
NOT_TO_BE_USED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}

Command = Callable[[DictConfig], Any]


def command(config_name: str, *, bare_paths: str | None = None) -> Callable[[Command], Callable[[], None]]:
    """Make a function of the composed config the program's entry point, under `conf/<config_name>.yaml`.

    Paths among the arguments that are no value of any key become the list of the key `bare_paths`. `train` is started
    by Hydra, which knows run folders, multiruns and launchers; the others only have their config composed.
    """

    def decorate(function: Command) -> Callable[[], None]:
        @functools.wraps(function)
        def entry_point() -> None:
            with errors_in_words():
                given = command_line.read(sys.argv[1:], bare_paths)
                if given.help:
                    print_help(help_text(config_name))
                elif config_name == "train" or given.shows:
                    start_hydra(config_name, function, given)
                else:
                    compose_and_call(config_name, function, given)

        return entry_point

    return decorate


def compose_and_call(config_name: str, function: Command, given: argparse.Namespace) -> None:
    """Call the function with its config; in a multirun with one after the other, of every combination of the values."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = command_line.check(config_name, given)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        say_loading()
        for lines in itertools.product(*map(values, overrides)):
            function(composed(config_name, lines))


def start_hydra(config_name: str, function: Command, given: argparse.Namespace) -> None:
    """Let Hydra do what the command line says, once it is checked: a run, a multirun, or showing something."""
    if not given.shows:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            command_line.check(config_name, given)
            given.overrides += command_line.continuing(given.overrides)
        say_loading()

    @functools.wraps(function)  # by which Hydra names the job
    def task(config: DictConfig) -> None:
        with errors_in_words():
            function(config)

    sys.argv[1:] = [*given.options, *given.overrides]
    os.environ[FULL_ERROR] = "1"  # Hydra hands errors on to us instead of printing them
    hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(task)()


def say_loading() -> None:
    """Tell a person who waits, and nobody else, why nothing seems to happen for some seconds."""
    if sys.stderr.isatty() and "torch" not in sys.modules and "LOCAL_RANK" not in os.environ:
        print("loading libraries …", file=sys.stderr)


# Errors


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """End the program with a line for each fault, and the exit code for it."""
    try:
        yield
    except (Exception, KeyboardInterrupt, Stopped) as error:
        leave(error)


def leave(error: BaseException) -> NoReturn:
    """Print what went wrong, one line each, and end with the exit code for it."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    if SHOW_TRACEBACK and isinstance(error, Exception):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(signal.SIGINT)
    if isinstance(error, Stopped):
        print(error, *error.advice, sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)
    code = 2
    if isinstance(error, RunFailed):
        lines, code = str(error).splitlines(), 1
    elif isinstance(error, ConfigError):
        lines = list(error.faults)
    elif isinstance(error, HydraException | OmegaConfBaseException):
        lines = [first_line(error)]
    elif isinstance(error, OSError) and error.filename and error.errno in NOT_TO_BE_USED:
        lines = [f"{error.filename}: {error.strerror}; check the path and its permissions"]
    else:
        lines, code = [f"{type(error).__name__}: {error} ({FULL_ERROR}=1 shows where)"], 1
    print(*(f"error: {line}" for line in lines), sep="\n", file=sys.stderr)
    sys.exit(code)


# Help


def print_help(text: str) -> None:
    """Print the help, of which a reader such as `head` or `less` may take only a part."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # what is left goes nowhere; otherwise Python tries again when it ends, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def help_text(config_name: str) -> str:
    """What the command is for, its groups with their choices, its keys: as its config says it."""
    path = CONF / f"{config_name}.yaml"
    head, _, rest = path.read_text(encoding="utf-8").partition("defaults:\n")
    keys = re.sub(r"^(?:  - .*\n)+", "", rest).strip()
    listed = [next(iter(item)) for item in OmegaConf.load(path).defaults if isinstance(item, DictConfig)]
    groups = {str(group): available_choices(str(group)) for group in listed if group != "hydra"}
    paragraphs = ["\n".join(line.removeprefix("#").removeprefix(" ") for line in head.strip().splitlines())]
    if groups:
        width = max(map(len, groups))
        rows = [f"  {group:{width}}  {' '.join(choices)}" for group, choices in groups.items()]
        paragraphs.append("\n".join(["Choose one of each group with group=choice:", *rows]))
    paragraphs += ["Set any value with key=value:", keys]
    if groups:
        paragraphs.append("All keys with their values: --cfg job")
    return "\n\n".join(paragraphs)
