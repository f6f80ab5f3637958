"""Reading the command line: its faults, also those of every job of a sweep, before anything is imported or written.

Nothing here imports torch, so `--help` and config errors answer at once.
"""

import argparse
import functools
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import mlplab.sweeps.jobs  # noqa: F401 - registers what conf/hydra/default.yaml refers to
from mlplab.config.check import CONF
from mlplab.config.overrides import SWEEP_KEYS, all_faults, available_choices, parsed, values
from mlplab.errors import ConfigError, did_you_mean
from mlplab.runs.record import Record
from mlplab.runs.resume import continued_config, run_and_checkpoint

PATHS = ("run", "resume", "input", "output", "into", "figure", "data.root", "hydra.run.dir", "hydra.sweep.dir")
"""Keys whose values are paths."""


class Grid(NamedTuple):
    """A multirun: its folder, the overrides of its jobs by key (every combination is a job), and those of Hydra."""

    folder: Path
    overrides: dict[str, list[str]]
    launch: list[str]
    overwrite: bool
    study: dict | None
    named: bool
    """Whether the same command would use the same folder again."""

    def jobs(self) -> Iterator[tuple[str, ...]]:
        """The overrides of each job, each combination once; the last key changes fastest."""
        yield from dict.fromkeys(itertools.product(*self.overrides.values()))


def argument_parser() -> argparse.ArgumentParser:
    """Hydra's, with one line for an option that it does not have."""
    parser = get_args_parser()
    parser.error = refuse_option  # type: ignore[method-assign]
    return parser


def parse_arguments() -> argparse.Namespace:
    """What Hydra is asked for. Raises ConfigError for an option that it does not have."""
    arguments = argument_parser().parse_args()
    # A study is a grid of runs; each process of trainer=ddp repeats one job of it, and Lightning says so.
    chooses_study = any(re.match(r"study=(?!null$)", override) for override in arguments.overrides)
    arguments.multirun |= chooses_study and not arguments.cfg and not arguments.info and "LOCAL_RANK" not in os.environ
    return arguments


def refuse_option(message: str) -> NoReturn:
    word = message.rpartition(" ")[2]
    options = ("--help", "--multirun", "--cfg", "--resolve", "--info", "--config-dir", "--config-name", "--version")
    raise ConfigError(f"{message}{did_you_mean(word, options)}; values are set as key=value, see --help")


def quoted_path(argument: str) -> str:
    """Quote a path for Hydra's grammar, so that it can be pasted as it is: run folders of a sweep hold `=` and `,`."""
    key, _, value = argument.partition("=")
    if key not in PATHS or value[:1] in ("", "'", '"') or "${" in value:
        return argument
    needs_quotes = "=" in value or (Path(value).exists() and not re.fullmatch(r"[\w./:+-]+", value))
    return f"{key}='{value}'" if needs_quotes and "'" not in value else argument


def quoted_overrides(argument: str) -> str:
    """Quote `overrides=[data=moons,model.hidden_sizes=[8,4]]` item by item: Hydra's lists hold no `=`."""
    found = re.fullmatch(r"((?:search\.)?overrides)=\[([^'\"]+)\]", argument)
    if found is None:
        return argument
    items = re.split(r",\s*(?=[+~]*[\w./]+=|~)", found[2].strip())
    return f"{found[1]}=['" + "','".join(items) + "']"


def gather_paths(arguments: Sequence[str], key: str) -> list[str]:
    """The arguments with the bare paths of `report.py outputs/a outputs/b` as `key=['outputs/a','outputs/b']`."""
    paths = [path for path in argument_parser().parse_args(arguments).overrides if is_bare_path(path)]
    if not paths:
        return list(arguments)
    quoted = (path.replace("'", r"\'") for path in paths)
    return [argument for argument in arguments if argument not in paths] + [f"{key}=['" + "','".join(quoted) + "']"]


def is_bare_path(argument: str) -> bool:
    """Whether an argument is a path, which may hold `=`, rather than key=value."""
    key, equals, _ = argument.partition("=")
    return not equals or "/" in key or os.sep in key or Path(argument).exists()


# Checking before anything starts


def check_command_line(config_name: str, arguments: argparse.Namespace) -> Grid | None:
    """The grid of a multirun of training jobs, otherwise None.

    Raises ConfigError with all faults of the command line and of the config, or of all configs of a multirun.
    """
    if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
        return None
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = parsed(arguments.overrides)
        config = composed_for_sweep(config_name, overrides) if arguments.multirun else None
        if config is not None:
            # As in Hydra's sweeper: what the command line says replaces what the config says of the same key.
            params = (config.hydra.sweeper.get("params") or {}).items()
            both = [*parsed(f"{key}={value}" for key, value in params), *overrides]
            overrides = list({override.get_key_element(): override for override in both}.values())
        if faults := all_faults(config_name, overrides, sweep=arguments.multirun, values_too=not arguments.cfg):
            raise ConfigError(*faults)
        if any(one.key_or_group == "resume" for one in overrides):
            check_resuming(config_name, arguments)
        if config_name == "eval" and not (arguments.multirun or arguments.cfg):
            Record.read(Path(compose(config_name, arguments.overrides).run))  # a misspelt folder is named at once
    return None if config is None or "sweep" not in config else grid(config, overrides)


def check_resuming(config_name: str, arguments: argparse.Namespace) -> None:
    """Raise ConfigError where a run cannot be continued as the command line says."""
    if arguments.multirun:
        raise ConfigError("resume continues one run; to continue a multirun, repeat its command with sweep=…")
    if run := compose(config_name, arguments.overrides).resume:
        folder, _ = run_and_checkpoint(str(run))
        continued_config(folder, arguments.overrides, functools.partial(compose, config_name))


def composed_for_sweep(config_name: str, overrides: Sequence[Override]) -> DictConfig | None:
    """What all jobs share, with Hydra's part: the grid of a study, the sweep's folder. None if it does not compose."""
    fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
    try:
        return compose(config_name, fixed, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):
        return None  # which override is wrong is found out one by one


# Sweeps


def grid(config: DictConfig, overrides: Sequence[Override]) -> Grid:
    """The grid of overrides that were found to be right, of which `config` has those that all jobs share."""
    in_jobs = [one for one in overrides if not one.is_hydra_override() and one.key_or_group not in SWEEP_KEYS]
    return Grid(
        folder=Path(config.hydra.sweep.dir),
        overrides={one.get_key_element(): list(values(one)) for one in in_jobs},
        launch=[one.input_line or "" for one in overrides if one.is_hydra_override()],
        overwrite=config.sweep_overwrite,
        named=bool(config.sweep) or any(one.key_or_group == "hydra.sweep.dir" for one in overrides),
        study=OmegaConf.to_container(config.study) if config.get("study") else None,  # type: ignore[arg-type]
    )


# Help


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
