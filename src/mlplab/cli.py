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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.check import CONF
from mlplab.config.overrides import all_faults, available_choices, composed, parsed, quoted, values
from mlplab.errors import ConfigError, RunFailed, did_you_mean, first_line
from mlplab.runs.resume import continued_config, requeued_run, run_and_checkpoint
from mlplab.signals import Stopped
from mlplab.sweeps.grid import with_params

FULL_ERROR, ASKED = "HYDRA_FULL_ERROR", "MLPLAB_FULL_ERROR"
SHOW_TRACEBACK = os.environ.get(ASKED, os.environ.get(FULL_ERROR)) == "1"
"""What a person has asked for: below, FULL_ERROR is set for Hydra, and processes started by this one inherit it."""
NOT_TO_BE_USED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}

SWITCHES = ("--help -h", "--multirun -m", "--resolve", "--hydra-help", "--version", "--shell-completion -sc")
WITH_VALUE = ("--cfg -c", "--package -p", "--info -i")
PATHS = (
    "run",
    "resume",
    "input",
    "output",
    "into",
    "figure",
    "data.root",
    "data.path",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
"""Keys whose values are paths."""

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
                given = read(sys.argv[1:], bare_paths)
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
        overrides = check(config_name, given)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        say_loading()
        for lines in itertools.product(*map(values, overrides)):
            function(composed(config_name, lines))


def start_hydra(config_name: str, function: Command, given: argparse.Namespace) -> None:
    """Let Hydra do what the command line says, once it is checked: a run, a multirun, or showing something."""
    if not given.shows:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            check(config_name, given)
            given.overrides += continuing(given.overrides)
        say_loading()

    @functools.wraps(function)  # by which Hydra names the job
    def task(config: DictConfig) -> None:
        with errors_in_words():
            function(config)

    sys.argv[1:] = [*given.options, *given.overrides]
    os.environ |= {ASKED: str(int(SHOW_TRACEBACK)), FULL_ERROR: "1"}  # Hydra hands errors on to us, unprinted
    hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(task)()


def say_loading() -> None:
    """Tell a person who waits, and nobody else, why nothing seems to happen for some seconds."""
    if sys.stderr.isatty() and "torch" not in sys.modules and "LOCAL_RANK" not in os.environ:
        print("loading libraries …", file=sys.stderr)


# Reading the command line


def read(words: Sequence[str], bare_paths: str | None = None) -> argparse.Namespace:
    """Hydra's options, and in Hydra's grammar `overrides`; `shows` says that something is to be shown, not run.

    Paths that are no value of any key become the list of the key `bare_paths`. Raises ConfigError for an option that
    there is not.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for names in SWITCHES:
        parser.add_argument(*names.split(), action="store_true")
    for names in WITH_VALUE:
        parser.add_argument(*names.split())
    try:
        given, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}; see --help") from error
    known = [names.split()[0] for names in SWITCHES + WITH_VALUE]
    if wrong := [word for word in others if word.startswith("-")]:
        raise ConfigError(*(f"{word}: no such option{did_you_mean(word, known)}; see --help" for word in wrong))
    given.options = [word for word in words if word not in others]
    given.shows = bool(given.cfg or given.info or given.hydra_help or given.version or given.shell_completion)
    paths = [word for word in others if bare_paths and is_bare_path(word)]
    given.overrides = [in_grammar(word) for word in others if word not in paths]
    given.overrides += [f"{bare_paths}=[{','.join(map(quoted, paths))}]"] if paths else []
    return given


def in_grammar(argument: str) -> str:
    """An argument as Hydra's grammar takes it: what holds `=` or `,` without meaning anything by it is quoted.

    Those are paths, which can be pasted as they are, and the items of `overrides=[data=moons,model.hidden_sizes=[8]]`.
    """
    key, _, value = argument.partition("=")
    if key in ("overrides", "search.overrides") and re.fullmatch(r"\[[^'\"]+\]", value):
        items = re.split(r",\s*(?=[+~]*[\w./]+=|~)", value[1:-1].strip())
        return f"{key}=[{','.join(map(quoted, items))}]"
    if key not in PATHS or value[:1] in ("", "'", '"') or "${" in value:
        return argument
    needs_quotes = "=" in value or (Path(value).exists() and not re.fullmatch(r"[\w./:+-]+", value))
    return f"{key}={quoted(value)}" if needs_quotes else argument


def is_bare_path(argument: str) -> bool:
    """Whether an argument is a path, which may hold `=`, rather than key=value."""
    key, equals, _ = argument.partition("=")
    return not equals or "/" in key or "\\" in key or Path(argument).exists()


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
    given_keys = {override.key_or_group for override in overrides}
    if sweeps and "resume" in given_keys:
        raise ConfigError("resume continues one run; to continue a multirun, repeat its command with sweep=…")
    if sweeps and config_name == "train" and "name" in given_keys:
        raise ConfigError("name is of one run; a multirun is named by sweep=…")
    return overrides


def continuing(overrides: Sequence[str]) -> list[str]:
    """What `resume=` adds, or for a job that SLURM starts again its unfinished run: Hydra works in the run's folder.

    Raises ConfigError where the run cannot be continued as the overrides say. Hydra must be started.
    """
    of_task = [line for line in overrides if not line.startswith(("hydra.", "hydra/"))]
    added = [f"resume={quoted(run)}"] if (run := requeued_run(Path("outputs/train"), of_task)) else []
    asked = [one.value() for one in parsed([*overrides, *added]) if one.key_or_group == "resume"]
    if not asked or not asked[-1]:
        return []
    folder, checkpoint = run_and_checkpoint(str(asked[-1]))
    continued_config(folder, [*overrides, *added])
    return [f"resume={quoted(checkpoint or folder)}", f"hydra.run.dir={quoted(folder)}"]


# Errors


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """End the program with a line for each fault, and the exit code for it."""
    try:
        yield
    except (KeyboardInterrupt, Stopped) as error:
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        print(stop, *stop.advice, sep="\n", file=sys.stderr)
        sys.exit(stop.exit_code)
    except Exception as error:
        if SHOW_TRACEBACK:
            traceback.print_exception(error)
        code, lines = in_words(error)
        print(*(f"error: {line}" for line in lines), sep="\n", file=sys.stderr)
        sys.exit(code)


def in_words(error: Exception) -> tuple[int, Sequence[str]]:
    """The exit code for an error, and what to say of it."""
    if isinstance(error, ConfigError):
        return 2, error.faults
    if isinstance(error, HydraException | OmegaConfBaseException):
        return 2, [first_line(error)]
    if isinstance(error, OSError) and error.filename and error.errno in NOT_TO_BE_USED:
        return 2, [f"{error.filename}: {error.strerror}; check the path and its permissions"]
    if isinstance(error, RunFailed):
        return 1, str(error).splitlines()
    return 1, [f"{type(error).__name__}: {error} ({FULL_ERROR}=1 shows where)"]


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
    purpose = re.sub(r"^# ?", "", head.strip(), flags=re.MULTILINE)
    keys = re.sub(r"^(?:  - .*\n)+", "", rest).strip()
    listed = [str(next(iter(item))) for item in OmegaConf.load(path).defaults if isinstance(item, DictConfig)]
    groups = [group for group in listed if group != "hydra"]
    if not groups:
        return f"{purpose}\n\nSet any value with key=value:\n\n{keys}"
    width = max(map(len, groups))
    choices = "\n".join(f"  {group:{width}}  {' '.join(available_choices(group))}" for group in groups)
    return (
        f"{purpose}\n\nChoose one of each group with group=choice:\n{choices}\n\n"
        f"Set any value with key=value:\n\n{keys}\n\nAll keys with their values: --cfg job"
    )
