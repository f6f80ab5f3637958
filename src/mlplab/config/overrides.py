"""Overrides: read, composed as Hydra does it, and what is wrong with each of them."""

import contextlib
import copy
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.check import CONF, config_faults
from mlplab.config.keys import RULES
from mlplab.errors import ConfigError, did_you_mean, first_line

SWEEP_KEYS = ("sweep", "sweep_overwrite")
"""Keys of a multirun as a whole, not of its jobs."""
INCLUDED = "base"
"""The config that others of its group include: no choice of its own."""
MAX_JOBS_CHECKED = 1000
"""Of a larger sweep the first so many jobs are checked before it starts; every job checks itself once more."""


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
        if key in ("hydra.run.dir", "hydra.sweep.dir") and not override.value():
            yield f"{key} must name a folder, got nothing; leave it out for a fresh one"
        elif override.is_sweep_override() and not sweep:
            yield f"{line}: several values need a multirun; add -m{or_as_list(override)}"
        elif override.is_sweep_override() and key in (*SWEEP_KEYS, "study"):
            yield f"{line}: a multirun has one {key}; start one for each"
        elif key in SWEEP_KEYS and not sweep:
            yield f"{line}: {key} is of a multirun; add -m, or leave it out"
        elif key == "hydra.sweep.subdir":
            yield f"{line}: cannot be set; jobs are found again by the names of their folders"


def or_as_list(override: Override) -> str:
    """How several values would be written as one, where that is a value of the key: `model.hidden_sizes=32,16`."""
    key, _, value = (override.input_line or "").partition("=")
    with contextlib.suppress(OverrideParseException):
        if key in RULES and RULES[key].holds(parse_override(f"{key}=[{value}]").value()):
            return f", or write one list as '{key}=[{value}]'"
    return ""


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
        known = GlobalHydra.instance().config_loader().get_group_options(key) if "/" in key else []
        if not known:
            return f"{line}: no such key; see --cfg hydra for all keys"
        return f"{line}: no such choice{did_you_mean(line.partition('=')[2], known)}; there are: {', '.join(known)}"
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
        if not parent and (inner := keys_ending_in(config, leaf)):
            return f"{key}: no such key at the top level; did you mean {' or '.join(inner)}?"
        return (
            f"{key}: no such key{did_you_mean(leaf, names + groups)}; {parent or 'the config'} has: {', '.join(names)}"
        )
    if node is None or not isinstance(node, DictConfig):
        top = key.partition(".")[0]
        return f"{key}: no such key{did_you_mean(top, map(str, config))}; see --cfg job for all keys"
    return f"{line}: {first_line(error)}"


OFTEN_MEANT = {"epochs": "trainer.max_epochs", "learning_rate": "optimizer.lr"}


def keys_ending_in(config: DictConfig, leaf: str) -> list[str]:
    """The keys `<section>.<leaf>` of the config, or the one that is meant by a common other name."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    found = [
        ".".join([str(section), leaf]) for section, keys in plain.items() if isinstance(keys, dict) and leaf in keys
    ]
    return found or ([OFTEN_MEANT[leaf]] if leaf in OFTEN_MEANT else [])


def available_choices(group: str) -> list[str]:
    folder = CONF / group
    return sorted({path.stem for path in folder.glob("*.yaml")} - {INCLUDED}) if group and folder.is_dir() else []
