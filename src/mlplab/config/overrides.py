"""Overrides: read, composed as Hydra does it, and what is wrong with each of them."""

import contextlib
import functools
import itertools
import pickle
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.check import CONF, UNKNOWN_YET, config_faults
from mlplab.config.keys import RULES
from mlplab.config.targets import nodes
from mlplab.errors import ConfigError, did_you_mean, first_line

INCLUDED = "base"
"""The config that others of its group include: no choice of its own."""
MAX_JOBS_CHECKED = 1000
"""Of a larger sweep the first so many jobs are checked before it starts; every job checks itself once more."""
OFTEN_MEANT = {"epochs": ["trainer.max_epochs"], "learning_rate": ["optimizer.lr"]}
DOES_NOT_FIT = (HydraException, OmegaConfBaseException, ValueError, TypeError)
"""What composing raises, and setting a value, where an override does not fit the config."""


def all_faults(config_name: str, overrides: Sequence[Override], *, sweep: bool) -> list[str]:
    """One line for each fault of a command line; of a sweep, those of all its jobs, each once."""
    tried = [one for one in overrides if sweep or not one.is_sweep_override()]
    if faults := [fault for one in tried if (fault := sweep_fault(one))]:
        return faults
    jobs = itertools.islice(itertools.product(*map(values, tried)), MAX_JOBS_CHECKED)
    return [*use_faults(overrides, sweep=sweep), *job_faults(config_name, jobs)]


def sweep_fault(override: Override) -> str | None:
    """What is wrong with the values of a sweep, where there are none to be tried."""
    key, line = override.key_or_group, str(override.input_line)
    if override.is_interval_sweep():
        return f"{line}: an interval has no end of values; write some of them, as in {key}=0.1,0.2"
    if next(values(override), None) is None:
        choices = available_choices(key)
        return f"{line}: no value" + (f"; there are: {', '.join(choices)}" if choices else "")
    return None


def use_faults(overrides: Iterable[Override], *, sweep: bool) -> Iterator[str]:
    """Several values without a multirun, keys of a multirun without one, and several multiruns in one."""
    for override in overrides:
        key, line = override.key_or_group, str(override.input_line)
        if key in ("hydra.run.dir", "hydra.sweep.dir") and not override.value():
            yield f"{key} must name a folder, got nothing; leave it out for a fresh one"
        elif override.is_sweep_override() and not sweep:
            yield f"{line}: several values need a multirun; add -m{or_as_list(*line.split('=', 1))}"
        elif override.is_sweep_override() and key in ("sweep", "study"):
            yield f"{line}: a multirun has one {key}; start one for each"
        elif key == "sweep" and not sweep:
            yield f"{line}: sweep is of a multirun; add -m, or leave it out"
        elif key == "hydra.sweep.subdir":
            yield f"{line}: cannot be set; jobs are found again by the names of their folders"


def or_as_list(key: str, values: str) -> str:
    """How several values would be written as one, where that is a value of the key: `model.hidden_sizes=32,16`."""
    with contextlib.suppress(ConfigError):
        if key in RULES and RULES[key].holds(parsed([f"{key}=[{values}]"])[0].value()):
            return f", or write one list as '{key}=[{values}]'"
    return ""


def job_faults(config_name: str, jobs: Iterable[Sequence[str]]) -> list[str]:
    """One line for each override of some jobs that does not fit, then one for each fault of what the others give."""
    misfits, wrong = dict[str, None](), dict[str, None]()
    for job in jobs:
        config, faults = compose_what_fits(config_name, job)
        if "folder" in config:
            config.folder = UNKNOWN_YET
        misfits |= dict.fromkeys(faults)
        wrong |= dict.fromkeys(config_faults(config))
    return [*misfits, *wrong]


@functools.cache
def parse_override(line: str) -> Override:
    with hydra_started():
        return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides([line])[0]


def hydra_started() -> contextlib.AbstractContextManager[Any]:
    """Hydra with the configs of `conf`: that of the command, or one for the moment."""
    started = GlobalHydra.instance().is_initialized()
    return contextlib.nullcontext() if started else initialize_config_dir(str(CONF), version_base="1.3")


def parsed(lines: Iterable[str]) -> list[Override]:
    """Overrides as Hydra's grammar reads them. Raises ConfigError where it cannot."""
    lines = list(lines)
    if wrong := [line for line in lines if not is_readable(line)]:
        how = "lists are written [1,2], texts with spaces or signs 'in quotes'"
        blank = {line: ", no blank before =" * line.partition("=")[0].endswith(" ") for line in wrong}
        raise ConfigError(*(f"{line}: cannot be read; {how}{blank[line]}" for line in wrong))
    return [parse_override(line) for line in lines]


def is_readable(line: str) -> bool:
    """Whether Hydra's grammar can read an override."""
    try:
        parse_override(line)
    except OverrideParseException:
        return False
    return True


def values(override: Override) -> Iterator[str]:
    """The override itself, or one override for each value of a sweep such as `model=mlp,mlp_dropout`."""
    if override.is_sweep_override():
        yield from (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())
    else:
        yield str(override.input_line)


def available_choices(group: str) -> list[str]:
    """The names that can be chosen of a group of the configs; none for what is no group."""
    folder = CONF / group
    return sorted({path.stem for path in folder.glob("*.yaml")} - {INCLUDED}) if group and folder.is_dir() else []


def quoted(text: object) -> str:
    """A text as a value in Hydra's grammar, whatever it holds."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(text)) + "'"


# Composing


def composed(config_name: str, lines: Sequence[str]) -> DictConfig:
    """What Hydra's compose gives. Raises ConfigError that names the overrides which do not fit."""
    config, faults = compose_what_fits(config_name, lines)
    if faults:
        raise ConfigError(*faults)
    return config


def compose_what_fits(config_name: str, lines: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The config with all overrides that can be composed, and one line for each that cannot."""
    overrides = parsed(lines)
    choices = [one for one in overrides if is_choice(one)]
    with_files, misfits = with_choices(config_name, tuple(str(one.input_line) for one in choices))
    config, faults = pickle.loads(with_files), list(misfits)
    for one in overrides:
        if one in choices:
            continue
        try:
            apply(config, one)
        except DOES_NOT_FIT as error:
            faults.append(explain(config, one, error))
    return config, faults


def is_choice(override: Override) -> bool:
    """Whether an override decides which files are read, or is Hydra's own; others set plain values."""
    return override.is_hydra_override() or bool(available_choices(override.key_or_group))


def apply(config: DictConfig, override: Override) -> None:
    """Set, add or delete a plain value, as Hydra does it, whose own function for it is private."""
    key, value, section = override.key_or_group, override.value(), section_of(config, override.key_or_group)
    leaf, adds = key.rpartition(".")[2], override.is_add() or override.is_force_add()
    if override.is_add() and isinstance(section, DictConfig) and leaf in section and not isinstance(value, dict | list):
        raise ValueError(f"Could not append to config. An item is already at '{key}'")
    if override.is_delete():
        with open_dict(config):
            del section[leaf]
    elif adds or OmegaConf.is_config(section):
        OmegaConf.update(config, key, value, force_add=adds)
    else:
        raise ValueError(f"{key} has no place in the config")


@functools.lru_cache(maxsize=256)
def with_choices(config_name: str, lines: tuple[str, ...]) -> tuple[bytes, list[str]]:
    """The same for choices of groups, whose files are read once for all configs that differ in plain values only.

    They come before values, as in Hydra: `optimizer.momentum=0.5 optimizer=momentum` is right in either order. The
    config is pickled, since to read it anew for each job takes a third of the time that a deep copy takes.
    """
    with hydra_started():
        try:
            config, faults = compose(config_name, list(lines)), list[str]()
        except DOES_NOT_FIT:
            config, fitting, faults = compose(config_name), list[str](), list[str]()
            for one in sorted(parsed(lines), key=lambda one: "." in one.key_or_group):
                try:
                    config = compose(config_name, [*fitting, str(one.input_line)])
                    fitting.append(str(one.input_line))
                except DOES_NOT_FIT as error:
                    faults.append(explain(config, one, error))
    return pickle.dumps(config), faults


def section_of(config: DictConfig, key: str) -> Any:
    """What holds a dotted key: the config itself or a part of it."""
    section = key.rpartition(".")[0]
    return OmegaConf.select(config, section, throw_on_resolution_failure=False) if section else config


def explain(config: DictConfig, override: Override, error: Exception) -> str:
    """What is wrong with an override that does not fit the config, and the nearest thing that exists."""
    key, line = override.key_or_group, str(override.input_line)
    choices, value = available_choices(key), line.partition("=")[2]
    if override.is_hydra_override():
        choices = GlobalHydra.instance().config_loader().get_group_options(key) if "/" in key else []
        if not choices:
            return f"{line}: no such key; see --cfg hydra for all keys"
    elif choices and override.is_add():
        return f"{line}: {key} is a group of the config already; write it without the +"
    if choices and value not in choices:
        return f"{line}: no such choice{did_you_mean(value, choices)}; there are: {', '.join(choices)}"
    parent, (section, _, leaf) = section_of(config, key), key.rpartition(".")
    if not isinstance(parent, DictConfig):
        hint = brought_by(key) or did_you_mean(key.partition(".")[0], map(str, config))
        return f"{key}: no such key{hint}; see --cfg job for all keys"
    if leaf in parent:
        return f"{line}: {first_line(error.__cause__ or error)}"
    names = [str(name) for name in parent if not str(name).startswith("_")]
    if parent is not config:
        hint = brought_by(key) or did_you_mean(leaf, names)
        return f"{key}: no such key{hint}; {section} has: {', '.join(names)}"
    plain: Any = OmegaConf.to_container(config)
    same_name = [f"{section}.{leaf}" for section, keys in plain.items() if isinstance(keys, dict) and leaf in keys]
    if meant := same_name or OFTEN_MEANT.get(leaf, []):
        return f"{key}: no such key at the top level; did you mean {' or '.join(meant)}?"
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    return f"{key}: no such key{did_you_mean(leaf, names + groups)}; the config has: {', '.join(names)}"


def brought_by(key: str) -> str:
    """A closing clause with the choices whose own files set a key: of its group, or else of any other."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONF.glob("*/*.yaml")):
        text, group = path.read_text(encoding="utf-8"), path.parent.name
        if f"{key.rpartition('.')[2]}:" not in text:
            continue  # most files, which take longer to read as YAML than all else that an error needs
        content: Any = OmegaConf.to_container(OmegaConf.create(text))
        is_global = text.startswith("# @package _global_")
        inner = key if is_global else key.removeprefix(f"{group}.") if key.startswith(f"{group}.") else ""
        if group not in ("study", "experiment") and inner and nodes(content).get(inner) is not None:
            found.setdefault(group, []).append(f"{group}={path.stem}")
    choices = found.get(key.partition(".")[0]) or [choice for group in found.values() for choice in group]
    return f"; it comes with {' or '.join(choices)}" if choices else ""
