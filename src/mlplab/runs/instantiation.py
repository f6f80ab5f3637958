"""One part of the config to one object: checked, then made by Hydra, with faults that name the key."""

import inspect
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.targets import SPECIAL, check_result, resolved
from mlplab.errors import ConfigError, first_line, is_out_of_memory

SMALLER = {"data": "choose fewer or smaller samples", "model": "lower model.hidden_sizes"}
"""What helps where memory has run out."""


def make(options: DictConfig, key: str, **more: Any) -> Any:
    """The object that a part of the config describes, after a look at what its targets are (see `config.targets`)."""
    return construct(resolved(plain(options), key), key, **more)


def construct(options: dict[str, Any], key: str, **more: Any) -> Any:
    """Hydra's instantiate of resolved targets; what they refuse becomes a ConfigError that names the key."""
    try:
        made = instantiate(options, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from error
        if is_out_of_memory(cause):
            raise ConfigError(
                f"{key}: out of memory; {SMALLER.get(key, 'it is too large')} ({first_line(cause)})"
            ) from error
        raise ConfigError(f"{key}: {first_line(cause)}") from error
    if key in ("data", "model"):
        check_result(made, key)
    return made


def plain(options: DictConfig) -> dict[str, Any]:
    """Plain data instead of a config, without interpolations, so that what is checked is what is built."""
    try:
        values = OmegaConf.to_container(options, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def accepts(target: Any, options: dict[str, Any], key: str, *, given: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for options that the target has no parameter for, or does without a needed one."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    title = f"{target.__module__}.{target.__qualname__}"
    names = [name for name in parameters if name not in given]
    unknown = [name for name in options if name not in names and name not in SPECIAL]
    needed = [name for name in names if parameters[name].default is inspect.Parameter.empty and name not in options]
    faults = [f"{key}.{name}: {title} has no such option; it has: {', '.join(names) or 'none'}" for name in unknown]
    faults += [f"{key}.{name} must be given: {title} needs it" for name in needed]
    if faults:
        raise ConfigError(*faults)
