"""The frame around every command: checks the config before anything is imported or written, and words the errors.

A user's mistake ends in one line per fault and exit code 2, a run that fails in exit code 1, neither with a traceback;
HYDRA_FULL_ERROR=1 shows it. Nothing here imports torch, so `--help` and config errors answer at once.
"""

import errno
import functools
import hashlib
import itertools
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.checks import ConfigError, RunFailed, did_you_mean, first_line
from mlplab.record import Record
from mlplab.resuming import continued_config, requeued_run, run_and_checkpoint
from mlplab.rules import CONF, config_faults
from mlplab.signals import Stopped

FULL_ERROR = "HYDRA_FULL_ERROR"
NOT_TO_BE_USED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
PATHS = ("run", "resume", "input", "output", "into", "figure", "data.root", "hydra.run.dir", "hydra.sweep.dir")
"""Keys whose values are paths."""
MAX_JOBS_CHECKED = 1000
"""Of a larger sweep the first so many jobs are checked before it starts; every job checks itself once more."""

OmegaConf.register_new_resolver("short_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", lambda overrides: job_folder(overrides), replace=True)


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
            sys.argv[1:] = map(quoted_path, sys.argv[1:])
            try:
                if config_name == "train":
                    continue_in_its_folder()
                if bare_paths:
                    sys.argv[1:] = gather_paths(sys.argv[1:], bare_paths)
                check_command_line(config_name)
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


# Checking before anything starts


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


def quoted_path(argument: str) -> str:
    """Quote a path for Hydra's grammar, so that it can be pasted as it is: run folders of a sweep hold `=` and `,`."""
    key, _, value = argument.partition("=")
    if key not in PATHS or value[:1] in ("", "'", '"') or "${" in value:
        return argument
    needs_quotes = "=" in value or (Path(value).exists() and not re.fullmatch(r"[\w./:+-]+", value))
    return f"{key}='{value}'" if needs_quotes and "'" not in value else argument


def gather_paths(arguments: Sequence[str], key: str) -> list[str]:
    """The arguments with the bare paths of `report.py outputs/a outputs/b` as `key=['outputs/a','outputs/b']`."""
    parser = get_args_parser()
    parser.error = refuse_option  # type: ignore[method-assign]
    paths = [path for path in parser.parse_args(arguments).overrides if is_bare_path(path)]
    if not paths:
        return list(arguments)
    quoted = (path.replace("'", r"\'") for path in paths)
    return [argument for argument in arguments if argument not in paths] + [f"{key}=['" + "','".join(quoted) + "']"]


def is_bare_path(argument: str) -> bool:
    """Whether an argument is a path, which may hold `=`, rather than key=value."""
    key, equals, _ = argument.partition("=")
    return not equals or "/" in key or os.sep in key or Path(argument).exists()


def check_command_line(config_name: str) -> None:
    """Raise ConfigError with all faults of the command line and of the config, or of all configs of a multirun."""
    parser = get_args_parser()
    parser.error = refuse_option  # type: ignore[method-assign]
    arguments = parser.parse_args()
    if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composable, faults = compose_one_by_one(config_name, arguments.overrides, sweep=arguments.multirun)
        if not arguments.cfg:
            faults += value_faults(config_name, composable)
        asked = [one.input_line or "" for one in composable if one.key_or_group == "resume"]
        if asked and not faults:
            if arguments.multirun:
                raise ConfigError("resume continues one run; to continue a multirun, repeat its command with sweep=…")
            folder, _ = run_and_checkpoint(str(compose(config_name, asked).resume))
            continued_config(folder, arguments.overrides, functools.partial(compose, config_name))
    if faults:
        raise ConfigError(*faults)


def refuse_option(message: str) -> NoReturn:
    word = message.rpartition(" ")[2]
    options = ("--help", "--multirun", "--cfg", "--resolve", "--info", "--config-dir", "--config-name", "--version")
    raise ConfigError(f"{message}{did_you_mean(word, options)}; values are set as key=value, see --help")


def compose_one_by_one(
    config_name: str, overrides: Sequence[str], *, sweep: bool
) -> tuple[list[Override], list[str]]:  # fmt: skip
    """The overrides that can be composed with those before them, and one line for each value that cannot.

    Choices of groups come first, as in Hydra: `optimizer.momentum=0.5 optimizer=momentum` is right in either order.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(f"{first_line(error)}; lists are written [1,2], texts with spaces 'in quotes'") from error
    faults: list[str] = []
    kept: list[Override] = []
    for override in sorted(parsed, key=lambda override: not available_choices(override.key_or_group)):
        if override.is_sweep_override() and not sweep:
            faults.append(f"{override.input_line}: several values need a multirun; add -m, or quote a list as [1,2]")
            continue
        faults_before = len(faults)
        earlier = [next(values(one)) for one in kept]
        for line in values(override):
            try:
                compose(config_name, [*earlier, line])
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                faults.append(explain(compose(config_name, earlier), override, line, error))
        if len(faults) == faults_before:
            kept.append(override)
    return kept, faults


def value_faults(config_name: str, overrides: Sequence[Override]) -> list[str]:
    """The faults of the composed config; of a sweep, those of all its jobs, each once."""
    found: dict[str, None] = {}
    for job in itertools.islice(itertools.product(*map(values, overrides)), MAX_JOBS_CHECKED):
        found |= dict.fromkeys(config_faults(compose(config_name, list(job))))
    return list(found)


def values(override: Override) -> Iterator[str]:
    """The override itself, or one override for each value of a sweep such as `model=mlp,mlp_dropout`."""
    if not override.is_sweep_override():
        yield override.input_line or ""
        return
    for value in override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"


def explain(config: DictConfig, override: Override, line: str, error: Exception) -> str:
    """What is wrong with one override of `config`, written as `line`, and the nearest thing that exists."""
    key = override.key_or_group
    if choices := available_choices(key):
        if override.is_add():
            return f"{line}: {key} is a group of the config already; write it without the +"
        value = line.partition("=")[2]
        if value not in choices:
            return f"{line}: no such choice{did_you_mean(value, choices)}; there are: {', '.join(choices)}"
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent, throw_on_resolution_failure=False) if parent else config
    if isinstance(node, DictConfig) and leaf not in node:
        names = [str(name) for name in node if not str(name).startswith("_")]
        groups = [path.name for path in CONF.iterdir() if path.is_dir()] if not parent else []
        return (
            f"{key}: no such key{did_you_mean(leaf, names + groups)}; {parent or 'the config'} has: {', '.join(names)}"
        )
    if node is None or not isinstance(node, DictConfig):
        top = key.partition(".")[0]
        return f"{key}: no such key{did_you_mean(top, map(str, config))}; see --cfg job for all keys"
    return f"{line}: {first_line(error)}"


def available_choices(group: str) -> list[str]:
    folder = CONF / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if group and folder.is_dir() else []


# Folder names


def job_folder(overrides: Sequence[str]) -> str:
    """A short, collision-free folder name for one job of a sweep, made of its overrides."""
    kept = sorted(override for override in overrides if not override.startswith("hydra"))
    exact = ",".join(kept)
    name = re.sub(r"[^\w.=,+~()-]+", "-", exact.replace("[", "(").replace("]", ")")) or "default"
    changed = len(name) > 100 or "-" in name
    return f"{name[:90]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}" if changed else name
