"""A search for good settings as YAML describes it, checked before torch is imported or anything is written."""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, OmegaConf

from mlplab.config.check import CONF, config_faults
from mlplab.config.overrides import compose_one_by_one, composed, parsed, use_faults
from mlplab.config.keys import select
from mlplab.errors import ConfigError, did_you_mean

STUDIES = Path("outputs") / "tuning"
KINDS = ("low", "high", "log"), ("choices",)
NOT_SEARCHED = {
    "test": "the test set is not touched",
    "monitor": "trials are compared by it",
    "monitor_mode": "trials are compared by it",
    "seed": "the best seed says nothing about other seeds",
    "data.split_seed": "scores on different samples do not compare",
    "data.fold": "scores on different samples do not compare",
}
"""Keys that cannot be searched, and why."""
NOT_WORDS = ("null", "true", "false", "nan", "inf")
"""What Hydra reads as another value than the text, unless it is quoted."""


class Search(NamedTuple):
    """What is varied and what is fixed: `overrides` are of every trial, written as for train.py.

    `space` has for each key of the train config either `low`, `high` and `log`, both ends included (integers where
    both are), or `choices`. `monitor` and `mode` ("min" or "max") say which trial is the best.
    """

    name: str
    n_trials: int
    space: dict[str, dict[str, Any]]
    overrides: tuple[str, ...]
    monitor: str
    mode: str
    pruner: dict[str, Any]
    storage: str | None

    @property
    def folder(self) -> Path:
        return STUDIES / self.name


def read_search(config: DictConfig) -> Search:
    """The search of a tune config. Raises ConfigError with all faults of its space and of its fixed overrides."""
    space: Any = OmegaConf.to_container(config.search.space) if "space" in config.search else None
    if not isinstance(space, dict) or not space:
        raise ConfigError(
            "search.space must name what is varied, e.g. optimizer.lr: {low: 0.001, high: 1.0, log: true}"
        )
    space = {str(key): domain for key, domain in space.items()}
    if faults := [fault for key, domain in space.items() for fault in domain_faults(key, domain)]:
        raise ConfigError(*faults)
    with composing():
        by_key = {
            one.get_key_element(): one for one in parsed([*config.search.get("overrides", []), *config.overrides])
        }
        faults = override_faults(by_key.values(), space) or trial_faults(by_key.values(), space)
        if faults:
            raise ConfigError(*faults)
        fixed = tuple(one.input_line or "" for one in by_key.values())
        train = composed("train", fixed)
    return Search(
        name=config.name,
        n_trials=config.n_trials,
        space=space,
        overrides=fixed,
        monitor=train.monitor,
        mode=train.monitor_mode,
        pruner={str(key): value for key, value in OmegaConf.to_container(config.pruner).items()},  # type: ignore[union-attr]
        storage=config.storage,
    )


@contextlib.contextmanager
def composing() -> Iterator[None]:
    """Let configs be composed, also within a command, which Hydra has been started for already."""
    started = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        restore_gh_from_backup(started)


# Faults


def domain_faults(key: str, domain: Any) -> Iterator[str]:
    """One line for each fault in what is written beside a key of the space."""
    if key in NOT_SEARCHED:
        yield f"search.space: {key} cannot be searched, since {NOT_SEARCHED[key]}"
    kind = next((kind for kind in KINDS if isinstance(domain, dict) and kind[0] in domain), None)
    if kind is None:
        yield f"search.space: {key} must be {{low: …, high: …}} or {{choices: […]}}, got {domain!r}"
        return
    for word in domain:
        if word not in kind:
            yield f"search.space: {key} has {word!r}, which is none of {', '.join(kind)}{did_you_mean(str(word), kind)}"
    if kind == ("choices",):
        choices = domain["choices"]
        if not isinstance(choices, list) or not choices:
            yield f"search.space: the choices of {key} must be a list of one or more values, got {choices!r}"
        elif len(set(map(value_text, choices))) < len(choices):
            yield f"search.space: the choices of {key} must differ, got {choices!r}"
        return
    low, high, log = domain["low"], domain.get("high"), domain.get("log", False)
    if not is_number(low) or not is_number(high):
        yield f"search.space: low and high of {key} must be finite numbers, got {low!r} and {high!r}"
    elif low >= high:
        yield f"search.space: low of {key} must be below high, got {low!r} and {high!r}"
    elif log is True and low <= 0:
        yield f"search.space: low of {key} must be above 0 with log: true, got {low!r}"
    if type(log) is not bool:
        yield f"search.space: log of {key} must be true or false, got {log!r}"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def override_faults(fixed: Iterable[Override], space: dict[str, Any]) -> list[str]:
    """What is wrong with fixed overrides, alone and beside the space."""
    faults = []
    for override in fixed:
        key, line = override.get_key_element(), override.input_line
        if key in space:
            faults.append(f"{key} is in search.space and fixed by {line}; leave one of them out")
        if override.is_hydra_override() or key in ("folder", "study", "resume"):
            faults.append(f"{line}: has no meaning for trials; leave it out")
        if key == "test" and override.value() is not False:
            faults.append(f"{line}: the test set is not touched while tuning; leave it out")
        if key == "seed" and override.value() is None:
            faults.append(f"{line}: the best trial could not be repeated; choose a seed")
    return faults


def trial_faults(fixed: Iterable[Override], space: dict[str, Any]) -> list[str]:
    """What train.py would say of the fixed overrides, and of each end and choice of the space beside them."""
    fixed = list(fixed)
    varied = parsed(f"{key}={','.join(map(value_text, ends(domain)))}" for key, domain in space.items())
    faults = list(use_faults(fixed, sweep=False)) or compose_one_by_one("train", [*fixed, *varied])[1]
    if faults:
        return list(dict.fromkeys(faults))
    lines = [one.input_line or "" for one in fixed]
    first = {key: override_line(key, ends(domain)[0]) for key, domain in space.items()}
    found: dict[str, None] = {}
    for key, domain in space.items():
        for value in ends(domain):
            one = first | {key: override_line(key, value)}
            found |= dict.fromkeys(config_faults(composed("train", [*lines, *one.values()])))
    config = composed("train", [*lines, *first.values()])
    if not str(config.monitor).startswith("val/"):
        found[f"monitor={config.monitor}: trials are compared on validation data; choose val/acc or val/loss"] = None
    if select(config, "trainer.devices") != 1:
        found[f"trainer.devices={config.trainer.devices}: a trial runs on one device; start several processes"] = None
    return list(found)


def ends(domain: dict[str, Any]) -> list[Any]:
    """The least and the greatest value of a range, or all choices."""
    return domain["choices"] if "choices" in domain else [domain["low"], domain["high"]]


# Overrides


def override_line(key: str, value: Any) -> str:
    """`key=value` as for train.py, which reads exactly this value from it."""
    return f"{key}={value_text(value)}"


def value_text(value: Any) -> str:
    """A value in the grammar of Hydra's command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{value_text(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (not re.fullmatch(r"[A-Za-z_][\w/.-]*", value) or value.lower() in NOT_WORDS):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


def choice_name(choice: Any) -> Any:
    """Optuna keeps plain values; a list becomes its text."""
    return value_text(choice) if isinstance(choice, list | dict) else choice


def short_text(value: Any) -> str:
    """A value for people to read: with four digits, as they would type it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value) if isinstance(value, str) else value_text(value)
