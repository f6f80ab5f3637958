"""What is wrong with a config: missing parts, single values, and how they go together. Needs no torch."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.combinations import combination_faults
from mlplab.config.keys import RULES
from mlplab.config.rules import NULL, mapping
from mlplab.config.selection import select
from mlplab.errors import first_line

CONF = Path(__file__).parents[3] / "conf"
"""The folder of all configs, at the top of the checkout."""

SECTIONS = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger")


def config_faults(config: DictConfig) -> list[str]:
    """One line for each fault that can be seen from the config alone."""
    missing = list(_missing(config))
    written: Any = OmegaConf.to_container(config)
    if "folder" in config and (absent_sections := section_faults(config)):
        return absent_sections
    faults = [f"{key} must be given: write {key}=…" for key in missing]
    found = {key: fault for key in RULES if key not in missing and (fault := _value_fault(config, key, written))}
    for section in ("callbacks", "logger"):
        for name, options in (select(config, section) or {}).items() if section not in found else ():
            if fault := (NULL | mapping()).fault(f"{section}.{name}", options):
                found[section] = fault
    faults += found.values()
    if not found.keys() & set(SECTIONS):
        try:
            faults += list(combination_faults(config))
        except OmegaConfBaseException as error:
            faults = faults or [first_line(error)]
    return faults


def _value_fault(config: DictConfig, key: str, written: dict[Any, Any]) -> str | None:
    """What is wrong with the value of a key, None if nothing is, or if the config has no such key.

    `written` is the config as plain data with its references as text: OmegaConf is asked only where there are some,
    since it is slow and a sweep has thousands of values.
    """
    value: Any = written
    for name in key.split("."):
        if not isinstance(value, dict):
            return _resolved_fault(config, key, value)
        if name not in value:
            return None
        value = value[name]
    if "${" in str(value) or "???" in str(value):
        return _resolved_fault(config, key, value)
    return RULES[key].fault(key, value)


def _resolved_fault(config: DictConfig, key: str, written: Any) -> str | None:
    """What is wrong with a value that is `written` as a reference to others, or has no place in the config."""
    absent = object()
    try:
        value = select(config, key, absent)
    except OmegaConfBaseException as error:
        unknown_yet = "HydraConfig was not set" in str(error)  # the run folder has no name before the run begins
        return None if unknown_yet else f"{key}: {first_line(error)}"
    if value is absent or re.fullmatch(r"\$\{[\w.]+\}", str(written)):
        return None  # that of another key, which is looked at there
    return RULES[key].fault(key, value)


def section_faults(config: DictConfig) -> list[str]:
    """One line for each part that the config of a run must have and lacks."""
    plain: Any = OmegaConf.to_container(config)
    if wrong := [fault for key in SECTIONS if (fault := _value_fault(config, key, plain))]:
        return wrong
    needed = [f"{section}._target_" for section in SECTIONS[:6]]
    needed += ["optimizer.lr", "callbacks", "logger", "seed", "monitor"]
    sections = {key: value if isinstance(value, dict) else {} for key, value in plain.items()}
    present = {f"{section}.{key}" for section, keys in sections.items() for key in keys} | plain.keys()
    return [f"{key} must be given" for key in needed if key not in present]


def _missing(config: DictConfig, path: str = "") -> Iterator[str]:
    """Keys whose value is ???, dotted."""
    for key in map(str, config):
        if OmegaConf.is_interpolation(config, key):
            continue
        if OmegaConf.is_missing(config, key):
            yield f"{path}{key}"
        elif isinstance(config[key], DictConfig):
            yield from _missing(config[key], f"{path}{key}.")
