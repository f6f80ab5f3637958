"""Reading the command line: its faults, also those of every job of a sweep, before anything is imported or written.

Nothing here imports torch, so `--help` and config errors answer at once.
"""

import argparse
import contextlib
import copy
import functools
import hashlib
import itertools
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.checks import ConfigError, did_you_mean, first_line
from mlplab.resuming import continued_config, run_and_checkpoint
from mlplab.rules import CONF, config_faults

PATHS = ("run", "resume", "input", "output", "into", "figure", "data.root", "hydra.run.dir", "hydra.sweep.dir")
"""Keys whose values are paths."""
SWEEP_KEYS = ("sweep", "sweep_overwrite")
"""Keys of a multirun as a whole, not of its jobs."""
INCLUDED = "base"
"""The config that others of its group include: no choice of its own."""
MAX_JOBS_CHECKED = 1000
"""Of a larger sweep the first so many jobs are checked before it starts; every job checks itself once more."""


OmegaConf.register_new_resolver("short_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", lambda overrides: job_folder(overrides), replace=True)
OmegaConf.register_new_resolver("or", lambda value, other: value or other, replace=True)


class Grid(NamedTuple):
    """A multirun: its folder, the overrides of its jobs by key (every combination is a job), and those of Hydra."""

    folder: Path
    overrides: dict[str, list[str]]
    launch: list[str]
    overwrite: bool
    study: dict | None

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


def all_faults(config_name: str, overrides: Sequence[Override], *, sweep: bool, values_too: bool) -> list[str]:
    """One line for each fault; overrides are tried one by one only where they do not compose together."""
    faults = list(use_faults(overrides, sweep=sweep))
    if not faults:
        with contextlib.suppress(HydraException, OmegaConfBaseException, ValueError):
            return value_faults(config_name, overrides) if values_too else []
    kept, more = compose_one_by_one(config_name, [one for one in overrides if sweep or not one.is_sweep_override()])
    return [*faults, *more, *(value_faults(config_name, kept) if values_too else ())]


def use_faults(overrides: Sequence[Override], *, sweep: bool) -> Iterator[str]:
    """Several values without a multirun, keys of a multirun without one, and several multiruns in one."""
    for override in overrides:
        key, line = override.key_or_group, override.input_line
        if override.is_sweep_override() and not sweep:
            yield f"{line}: several values need a multirun; add -m, or quote a list as [1,2]"
        elif override.is_sweep_override() and key in (*SWEEP_KEYS, "study"):
            yield f"{line}: a multirun has one {key}; start one for each"
        elif key in SWEEP_KEYS and not sweep:
            yield f"{line}: {key} is of a multirun; add -m, or leave it out"
        elif key == "hydra.sweep.subdir":
            yield f"{line}: cannot be set; jobs are found again by the names of their folders"


def parsed(lines: Iterable[str]) -> list[Override]:
    try:
        return [parse_override(line) for line in lines]
    except OverrideParseException as error:
        raise ConfigError(f"{first_line(error)}; lists are written [1,2], texts with spaces 'in quotes'") from error


@functools.cache
def parse_override(line: str) -> Override:
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides([line])[0]


def compose_one_by_one(config_name: str, overrides: Sequence[Override]) -> tuple[list[Override], list[str]]:
    """The overrides that can be composed with those before them, and one line for each value that cannot.

    Choices of groups come first, as in Hydra: `optimizer.momentum=0.5 optimizer=momentum` is right in either order.
    """
    faults: list[str] = []
    kept: list[Override] = []
    for override in sorted(overrides, key=lambda override: (not chooses(override), "." in override.key_or_group)):
        faults_before = len(faults)
        earlier = [next(values(one)) for one in kept]
        for line in values(override):
            try:
                composed(config_name, [*earlier, line])
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                faults.append(explain(composed(config_name, earlier), override, line, error))
        if len(faults) == faults_before:
            kept.append(override)
    return kept, faults


def value_faults(config_name: str, overrides: Sequence[Override]) -> list[str]:
    """The faults of the composed config; of a sweep, those of all its jobs, each once."""
    found: dict[str, None] = {}
    for job in itertools.islice(itertools.product(*map(values, overrides)), MAX_JOBS_CHECKED):
        found |= dict.fromkeys(config_faults(composed(config_name, job)))
    return list(found)


def composed(config_name: str, lines: Sequence[str]) -> DictConfig:
    """What Hydra's compose gives; the files are read once for configs that differ in plain values only."""
    overrides = parsed(lines)
    choices = tuple(override.input_line or "" for override in overrides if chooses(override))
    config = copy.deepcopy(with_choices(config_name, choices))
    ConfigLoaderImpl._apply_overrides_to_config([one for one in overrides if not chooses(one)], config)
    return config


@functools.lru_cache(maxsize=256)
def with_choices(config_name: str, choices: tuple[str, ...]) -> DictConfig:
    return compose(config_name, list(choices))


def values(override: Override) -> Iterator[str]:
    """The override itself, or one override for each value of a sweep such as `model=mlp,mlp_dropout`."""
    if not override.is_sweep_override():
        yield override.input_line or ""
        return
    for value in override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"


def chooses(override: Override) -> bool:
    """Whether an override has a part in which files are read; others change a plain value."""
    return override.is_hydra_override() or bool(available_choices(override.key_or_group))


def explain(config: DictConfig, override: Override, line: str, error: Exception) -> str:
    """What is wrong with one override of `config`, written as `line`, and the nearest thing that exists."""
    key = override.key_or_group
    if override.is_hydra_override():
        choices = GlobalHydra.instance().config_loader().get_group_options(key) if "/" in key else []
        there_are = f"; there are: {', '.join(choices)}" if choices else "; see --cfg hydra for all keys"
        return f"{line}: no such {'choice' if choices else 'key'}{did_you_mean(line.partition('=')[2], choices)}{there_are}"
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
    return sorted({path.stem for path in folder.glob("*.yaml")} - {INCLUDED}) if group and folder.is_dir() else []


# Sweeps


def grid(config: DictConfig, overrides: Sequence[Override]) -> Grid:
    """The grid of overrides that were found to be right, of which `config` has those that all jobs share."""
    in_jobs = [one for one in overrides if not one.is_hydra_override() and one.key_or_group not in SWEEP_KEYS]
    return Grid(
        folder=Path(config.hydra.sweep.dir),
        overrides={one.get_key_element(): list(values(one)) for one in in_jobs},
        launch=[one.input_line or "" for one in overrides if one.is_hydra_override()],
        overwrite=config.sweep_overwrite,
        study=OmegaConf.to_container(config.study) if config.get("study") else None,  # type: ignore[arg-type]
    )


def job_folder(overrides: Sequence[str]) -> str:
    """A short, collision-free folder name for one job of a sweep, made of its overrides."""
    kept = sorted(override for override in overrides if not override.startswith(("hydra", "study=")))
    exact = ",".join(kept)
    name = re.sub(r"[^\w.=,+~()-]+", "-", exact.replace("[", "(").replace("]", ")")) or "default"
    changed = len(name) > 100 or "-" in name
    return f"{name[:90]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}" if changed else name


# Help


def help_text(config_name: str) -> str:
    """What the command is for, its groups with their choices, its keys: as its config says it."""
    path = CONF / f"{config_name}.yaml"
    head, _, rest = path.read_text(encoding="utf-8").partition("defaults:\n")
    keys = re.sub(r"^(?:  - .*\n)+", "", rest).strip()
    listed = [next(iter(item)) for item in OmegaConf.load(path).defaults if isinstance(item, DictConfig)]
    groups = {str(group): available_choices(str(group)) for group in listed if group != "hydra"}
    paragraphs = ["\n".join(line.removeprefix("# ") for line in head.strip().splitlines())]
    if groups:
        width = max(map(len, groups))
        rows = [f"  {group:{width}}  {' '.join(choices)}" for group, choices in groups.items()]
        paragraphs.append("\n".join(["Choose one of each group with group=choice:", *rows]))
    paragraphs += ["Set any value with key=value:", keys]
    if groups:
        paragraphs.append("All keys with their values: --cfg job")
    return "\n\n".join(paragraphs)
