"""What a config may build: configs are data, read back from run folders, and must not be able to run just any code.

A `_target_` has a role, which its place in the config decides: `model` must be a network, `logger.<name>` a logger. Of
libraries a role allows the few names listed here; of mlplab and of the user's own packages any object of its kind.
`name_faults` looks at the names alone and needs no torch; `resolve` imports the object and looks at what it really is.
"""

import functools
import inspect
import pkgutil
import re
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from mlplab.errors import ConfigError, RunFailed, first_line

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
"""Where users name packages of their own: `[tool.mlplab]`, `trusted = ["mypackage"]`."""


class Role(NamedTuple):
    """What may stand in a `_target_`: a class derived from `base`, or, of `functions`, one annotated to return such.

    `text` says it in words. `library` lists the names outside mlplab and the user's packages, in which * stands for one
    part of a dotted name.
    """

    text: str
    base: str
    library: tuple[str, ...] = ()
    functions: bool = False


PL = "lightning.pytorch"
PART = Role("an nn.Module", "torch.nn.Module", ("torch.nn.*",))
"""What an argument of a target may itself be built from: a part of a network."""
ROLES = {
    "data": Role("a function annotated `-> Source`", "mlplab.data.sources.Source", functions=True),
    "model": PART._replace(text="an nn.Module, or a function annotated to return one", functions=True),
    "loss": PART,
    "optimizer": Role("an Optimizer", "torch.optim.Optimizer", ("torch.optim.*",)),
    "scheduler": Role(
        "a function annotated `-> float`, or a class whose `__call__` is", "builtins.float", functions=True
    ),
    "trainer": Role(f"{PL}.Trainer itself", f"{PL}.Trainer", (f"{PL}.Trainer",)),
    "trainer.profiler": Role("a Profiler", f"{PL}.profilers.Profiler", (f"{PL}.profilers.*",)),
    "trainer.strategy": Role(
        "a Strategy", f"{PL}.strategies.Strategy", (f"{PL}.strategies.DDPStrategy", f"{PL}.strategies.FSDPStrategy")
    ),
    "callbacks.*": Role("a Callback", f"{PL}.Callback", (f"{PL}.callbacks.*",)),
    "logger.*": Role(
        "a Logger", f"{PL}.loggers.Logger", (f"{PL}.loggers.TensorBoardLogger", f"{PL}.loggers.CSVLogger")
    ),
    "pruner": Role("a Pruner", "optuna.pruners.BasePruner", ("optuna.pruners.*",)),
}
"""Place in the config → what may be built there."""

MOVED = {f"mlplab.{name}": f"mlplab.models.{name}" for name in ("networks", "losses", "schedules")} | dict.fromkeys(
    ("mlplab.callbacks.monitors", "mlplab.callbacks.gradient_noise", "mlplab.callbacks.split_curve"),
    "mlplab.callbacks.measure",
)
"""Old module → new one: run folders made before a move name the old one."""

SPECIAL = ("_target_", "_partial_")
"""Of Hydra's special keys those that have a use here."""
PARTIAL = {"optimizer": (True,), "scheduler": (True, False)}
"""What `_partial_` may be: an optimizer needs the weights before it is complete. Elsewhere it is left out."""


def role_of(path: str) -> Role | None:
    """The role of the `_target_` at a dotted path of the config, None where nothing is built."""
    named = re.sub(r"^(callbacks|logger)\.[^.\[]+$", r"\1.*", path)
    section, _, rest = path.partition(".")
    if path.startswith("data.augmentation"):
        return None  # values of mlplab's own, not an object
    return ROLES.get(named) or (PART if rest and {section, f"{section}.*"} & ROLES.keys() else None)


def nodes(value: Any, path: str = "") -> dict[str, Any]:
    """Plain data with everything in it, each at its place: `{"": …, "model": …, "model.hidden_sizes[0]": …}`.

    Keys that could be taken for another place, such as `a.b` or 1, stand in brackets, so that none hides another.
    """
    found = {path: value}
    if isinstance(value, Mapping):
        for key, item in value.items():
            is_name = isinstance(key, str) and re.fullmatch(r"[^\W\d][^.\[\]]*", key)
            found |= nodes(item, f"{path}.{key if is_name else f'({key!r})'}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            found |= nodes(item, f"{path}[{index}]")
    return found


def name_faults(plain: Any, path: str = "") -> Iterator[str]:
    """One line for each `_target_` in plain data, at `path` of the config, that must not stand there by its name."""
    for place, options in nodes(plain, path).items():
        hydras = [key for key in options if re.fullmatch(r"_\w*_", str(key))] if isinstance(options, Mapping) else []
        if not hydras:
            continue
        role = role_of(place)
        if role is None:
            where = f"{place}._target_".lstrip(".")
            yield f"{where}: nothing is built here; only {', '.join(ROLES)} and their arguments are"
            continue
        for key in hydras:
            if key not in SPECIAL:
                yield f"{place}.{key} is not supported; name the arguments one by one"
        partial, allowed = options.get("_partial_", False), PARTIAL.get(place, (False,))
        if not any(partial is value for value in allowed):
            yield f"{place}._partial_ must be {' or '.join(map(str, allowed)).lower()}, got {partial!r}"
        target = options.get("_target_")
        if not is_named(target, role):
            places = ", ".join(dict.fromkeys([*role.library, "mlplab", *trusted()]))
            yield (
                f"{place}._target_ must come from {places}, got {target!r}; "
                f"packages of your own are named in {PROJECT.name}: [tool.mlplab] trusted = [...]"
            )


def is_named(target: Any, role: Role) -> bool:
    """Whether a `_target_` is a dotted name that the role allows."""
    if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target):
        return False
    patterns = [re.escape(name).replace(r"\*", r"\w+") for name in role.library]
    return any(re.fullmatch(pattern, target) for pattern in patterns) or _home(target) is not None


def is_own(target: Any) -> bool:
    """Whether a `_target_` lies in a package that the user trusts, not in mlplab or a library."""
    return isinstance(target, str) and _home(target) not in ("mlplab", None)


def _home(target: str) -> str | None:
    """mlplab or the entry of the user's list that holds the name, None where neither does."""
    return next((entry for entry in ("mlplab", *trusted()) if f"{target}.".startswith(f"{entry}.")), None)


@functools.cache
def trusted() -> tuple[str, ...]:
    """The packages, or single names, that the user's own pyproject.toml trusts beside those of the roles.

    Raises ConfigError when the file cannot be read.
    """
    try:
        tools = tomllib.loads(PROJECT.read_text(encoding="utf-8")).get("tool", {}) if PROJECT.is_file() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{PROJECT} cannot be read: {first_line(error)}") from error
    entries = tools.get("mlplab", {}).get("trusted", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
        raise ConfigError(f"{PROJECT}: [tool.mlplab] trusted must be a list of package names, got {entries!r}")
    return tuple(entries)


# With the object at hand


def resolved(plain: Any, path: str) -> Any:
    """A copy of plain data in which every `_target_` is the object that it names. Raises ConfigError as `resolve`."""
    if faults := list(name_faults(plain, path)):
        raise ConfigError(*faults)
    if isinstance(plain, list | tuple):
        return [resolved(item, f"{path}[{index}]") for index, item in enumerate(plain)]
    if not isinstance(plain, Mapping):
        return plain
    objects = {"_target_": resolve(plain["_target_"], path)} if "_target_" in plain else {}
    return {key: resolved(item, f"{path}.{key}") for key, item in plain.items()} | objects


def resolve(target: str, path: str) -> Any:
    """The class or function that the `_target_` at a dotted path names. Raises ConfigError unless it fits its role.

    Where an object lives is asked of the object: `mlplab.data.sources.Path.write_text` is no part of mlplab.
    """
    role = role_of(path)
    assert role is not None, "name_faults has looked at it"
    module, _, name = target.rpartition(".")
    target = f"{MOVED.get(module, module)}.{name}"
    try:
        found, base = pkgutil.resolve_name(target), pkgutil.resolve_name(role.base)
    except Exception as error:  # whatever the import of a module may raise
        raise ConfigError(f"{path}._target_: no {target} ({raised(error)})") from error
    lives_in, name = str(getattr(found, "__module__", "")), str(getattr(found, "__qualname__", ""))
    at_home = lives_in.partition(".")[0] == target.partition(".")[0] and "<" not in name
    if not at_home or not (_is_class(found, base) or (role.functions and _home(target) and _returns(found, base))):
        raise ConfigError(f"{path}._target_ must be {role.text}, got {target}")
    return found


def check_result(made: Any, path: str) -> None:
    """Raise ConfigError unless what a target gave is what its role says: annotations promise, they do not ensure."""
    role = role_of(path)
    if role is not None and not isinstance(made, pkgutil.resolve_name(role.base)):
        raise ConfigError(f"{path}._target_ must be {role.text}, but it gave a {type(made).__name__}")


def raised(error: BaseException) -> str:
    """What an error that was caught says; where others raised it, with its type and the last line of own code."""
    if isinstance(error, ConfigError | RunFailed):
        return str(error)
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__ and error.__traceback__.tb_next):  # not who caught it
        if _home(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"):
            where = f" ({frame.f_code.co_filename}, line {line})"
    return f"{type(error).__name__}: {first_line(error)}{where}" if where else first_line(error)


def _is_class(found: Any, base: Any) -> bool:
    if not inspect.isclass(found):
        return False
    if base is float:  # a schedule is an object that gives a number when called
        return _returns(found.__call__, float)
    return issubclass(found, base) and (found is not base or found.__name__ == "Trainer")


def _returns(function: Any, base: type) -> bool:
    """Whether a function is annotated to return the class or one derived from it."""
    try:
        hint = get_type_hints(function).get("return")
    except Exception:  # no function, or an annotation that is any expression
        return False
    return inspect.isclass(hint) and issubclass(hint, base)
