"""A search for good settings as YAML describes it, checked before torch is imported or anything is written."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from mlplab.config.overrides import composed, job_faults, parsed, quoted, use_faults
from mlplab.config.rules import NULL, SWITCH, Rule, number
from mlplab.errors import ConfigError, did_you_mean

STUDIES = Path("outputs") / "tuning"
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
CHOICES = Rule(
    "a list of one or more values that differ",
    lambda value: isinstance(value, list) and len(value) == len(set(map(value_text, value))) > 0,
)
KINDS = {"low": number(), "high": number(), "log": NULL | SWITCH}, {"choices": CHOICES}
"""What may be written beside a key of the space: a range, or choices."""


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
    space = plain["search"].get("space")
    if not isinstance(space, dict) or not space:
        example = "optimizer.lr: {low: 0.001, high: 1.0, log: true}"
        raise ConfigError(f"search.space must name what is varied, e.g. {example}")
    faults = [f"search.space: {fault}" for key, domain in space.items() for fault in domain_faults(key, domain)]
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


def domain_faults(key: str, domain: Any) -> Iterator[str]:
    """One line for each fault in what is written beside a key of the space."""
    if key in NOT_SEARCHED:
        yield f"{key} cannot be searched, since {NOT_SEARCHED[key]}"
    rules = next((rules for rules in KINDS if isinstance(domain, dict) and domain.keys() & rules.keys()), None)
    if rules is None:
        yield f"{key} must be {{low: …, high: …}} or {{choices: […]}}, got {domain!r}"
        return
    for word in domain:
        if word not in rules:
            yield f"{key} has {word!r}, which is none of {', '.join(rules)}{did_you_mean(str(word), rules)}"
    faults = [fault for word, rule in rules.items() if (fault := rule.fault(f"{word} of {key}", domain.get(word)))]
    yield from faults
    if not faults and "low" in domain and domain["low"] >= domain["high"]:
        yield f"low of {key} must be below high, got {domain['low']!r} and {domain['high']!r}"
    elif not faults and domain.get("log") and domain["low"] <= 0:
        yield f"low of {key} must be above 0 with log: true, got {domain['low']!r}"


def override_faults(fixed: dict[str, Override], space: dict[str, Any]) -> list[str]:
    """What is wrong with fixed overrides, alone and beside the space."""
    faults = [f"{key} is in search.space and fixed by {fixed[key].input_line}; leave one of them out"
              for key in fixed if key in space]  # fmt: skip
    for key, override in fixed.items():
        if override.is_hydra_override() or key in ("folder", "study", "resume"):
            faults.append(f"{override.input_line}: has no meaning for trials; leave it out")
        if key == "test" and override.value() is not False:
            faults.append(f"{override.input_line}: the test set is not touched while tuning; leave it out")
        if key == "seed" and override.value() is None:
            faults.append(f"{override.input_line}: the best trial could not be repeated; choose a seed")
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
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and (not re.fullmatch(r"[A-Za-z_][\w/.-]*", value) or value.lower() in NOT_WORDS):
        return quoted(value)
    return str(value)


def short_text(value: Any) -> str:
    """A value for people to read: with four digits, as they would type it."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else value_text(value)
