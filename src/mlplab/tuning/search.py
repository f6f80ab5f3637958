"""A search for good settings as YAML describes it, checked before torch is imported or anything is written."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from mlplab.config.keys import FOLDER_NAME
from mlplab.config.overrides import composed, job_faults, parsed, quoted, use_faults
from mlplab.config.rules import Rule, number
from mlplab.errors import ConfigError

STUDIES = Path("outputs") / "tuning"
NOT_SEARCHED = ("test", "monitor", "monitor_mode", "seed", "data.split_seed", "data.fold")
NOT_FIXED = ("test", "folder", "study", "resume")
NOT_WORDS = ("null", "true", "false", "nan", "inf")
"""What Hydra reads as another value than the text, unless it is quoted."""


def is_range(domain: Any) -> bool:
    """Whether two finite numbers are given, the first smaller than the second, and above 0 with log: true."""
    if not isinstance(domain, dict) or not {"low", "high"} <= domain.keys() <= {"low", "high", "log"}:
        return False
    low, high, log = domain["low"], domain["high"], domain.get("log")
    return number().holds(low) and number(above=low).holds(high) and log in (None, False, True) and (low > 0 or not log)


def are_choices(domain: Any) -> bool:
    """Whether values that differ are given, one or more."""
    choices = domain.get("choices") if isinstance(domain, dict) and len(domain) == 1 else None
    return isinstance(choices, list) and len(choices) == len(set(map(value_text, choices))) > 0


DOMAIN = Rule("{low: …, high: …} with low below high, and above 0 with log: true", is_range) | Rule(
    "{choices: […]} with values that differ", are_choices
)
"""What may be written beside a key of the space."""


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
    plain: Any = OmegaConf.to_container(config, resolve=True)
    FOLDER_NAME.require("name", plain["name"])
    space = plain["search"].get("space")
    if not isinstance(space, dict) or not space:
        example = "optimizer.lr: {low: 0.001, high: 1.0, log: true}"
        raise ConfigError(f"search.space must name what is varied, e.g. {example}")
    faults = [f"search.space: {fault}" for key, domain in space.items() if (fault := DOMAIN.fault(key, domain))]
    same = "trials compare only where they share the monitor, seeds and samples, and none is tested"
    faults += [f"search.space: {key} cannot be searched: {same}" for key in space if key in NOT_SEARCHED]
    lines = [*plain["search"].get("overrides", []), *plain["overrides"]]
    fixed = {one.get_key_element(): one for one in ([] if faults else parsed(lines))}
    if faults := faults or override_faults(fixed, space) or trial_faults(fixed, space):
        raise ConfigError(*faults)
    overrides = tuple(str(one.input_line) for one in fixed.values())
    train = composed("train", overrides)
    return Search(
        space=space,
        overrides=overrides,
        monitor=train.monitor,
        mode=train.monitor_mode,
        **{key: plain[key] for key in ("name", "n_trials", "pruner", "storage")},
    )


def override_faults(fixed: dict[str, Override], space: dict[str, Any]) -> list[str]:
    """What is wrong with fixed overrides, alone and beside the space."""
    faults = []
    for key, override in fixed.items():
        if key in space:
            faults.append(f"{key} is in search.space and fixed by {override.input_line}; leave one of them out")
        if override.is_hydra_override() or key in NOT_FIXED:
            why = "trials begin anew, in folders of their own, and the test set is not touched"
            faults.append(f"{override.input_line}: {why}; leave it out")
    return faults or list(use_faults(fixed.values(), sweep=False))


def trial_faults(fixed: dict[str, Override], space: dict[str, Any]) -> list[str]:
    """What train.py would say of the fixed overrides, and of each end and choice of the space beside them."""
    ends = {key: domain.get("choices") or [domain["low"], domain["high"]] for key, domain in space.items()}
    lines = {key: str(one.input_line) for key, one in fixed.items()}
    lines |= {key: override_line(key, values[0]) for key, values in ends.items()}
    trials = [lines | {key: override_line(key, value)} for key, values in ends.items() for value in values]
    if faults := job_faults("train", [list(trial.values()) for trial in trials]):
        return faults
    config = composed("train", list(lines.values()))
    if not str(config.monitor).startswith("val/"):
        faults.append(f"monitor={config.monitor}: trials are compared on validation data; choose val/acc or val/loss")
    if config.seed is None:
        faults.append("seed=null: the best trial could not be repeated; choose a seed")
    if (devices := OmegaConf.select(config, "trainer.devices")) != 1:
        faults.append(f"trainer.devices={devices}: a trial runs on one device; start several processes")
    return faults


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
        return json.dumps(value)
    if isinstance(value, str) and (not re.fullmatch(r"[A-Za-z_][\w/.-]*", value) or value.lower() in NOT_WORDS):
        return quoted(value)
    return str(value)
