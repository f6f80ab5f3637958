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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mlplab.errors import ConfigError, first_line

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
"""Where users name packages of their own: `[tool.mlplab]`, `trusted = ["mypackage"]`."""


@dataclass(frozen=True)
class Role:
    """What may stand in a `_target_`.

    `text` says it in words. `base` is the class that the target must derive from, or return where it is a function;
    `classes` and `functions` say which of the two it may be. `library` lists the names outside mlplab and the user's
    packages, in which * stands for one part of a dotted name.
    """

    text: str
    base: str
    library: tuple[str, ...] = ()
    classes: bool = True
    functions: bool = False


LAYER = ("torch.nn.*",)
ROLES = {
    "data": Role("a function annotated `-> Source`", "mlplab.data.types.Source", classes=False, functions=True),
    "model": Role("an nn.Module, or a function annotated to return one", "torch.nn.Module", LAYER, functions=True),
    "loss": Role("an nn.Module", "torch.nn.Module", LAYER),
    "optimizer": Role("an Optimizer", "torch.optim.Optimizer", ("torch.optim.*",)),
    "scheduler": Role(
        "a function annotated `-> float`, or a class whose `__call__` is", "builtins.float", functions=True
    ),
    "trainer": Role("lightning.pytorch.Trainer itself", "lightning.pytorch.Trainer", ("lightning.pytorch.Trainer",)),
    "trainer.profiler": Role("a Profiler", "lightning.pytorch.profilers.Profiler", ("lightning.pytorch.profilers.*",)),
    "trainer.strategy": Role(
        "a Strategy",
        "lightning.pytorch.strategies.Strategy",
        ("lightning.pytorch.strategies.DDPStrategy", "lightning.pytorch.strategies.FSDPStrategy"),
    ),
    "callbacks.*": Role("a Callback", "lightning.pytorch.Callback", ("lightning.pytorch.callbacks.*",)),
    "logger.*": Role(
        "a Logger",
        "lightning.pytorch.loggers.Logger",
        ("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.CSVLogger"),
    ),
}
"""Place in the config → what may be built there."""

MOVED = {
    "mlplab.networks": "mlplab.models.networks",
    "mlplab.losses": "mlplab.models.losses",
    "mlplab.schedules": "mlplab.models.schedules",
    "mlplab.callbacks.monitors": "mlplab.callbacks.measure",
    "mlplab.callbacks.gradient_noise": "mlplab.callbacks.measure",
    "mlplab.callbacks.split_curve": "mlplab.callbacks.measure",
}
"""Old module → new one: run folders made before a move name the old one."""

PART = Role("an nn.Module", "torch.nn.Module", LAYER)
"""What an argument of a target may itself be built from: a part of a network."""

SPECIAL = ("_target_", "_partial_")
"""Of Hydra's special keys those that have a use here."""

PARTIAL = {"optimizer": (True,), "scheduler": (True, False)}
"""What `_partial_` may be: an optimizer needs the weights before it is complete. Elsewhere it is left out."""


def role_of(path: str) -> Role | None:
    """The role of the `_target_` at a dotted path of the config, None where nothing is built."""
    section, _, rest = path.partition(".")
    if path in ROLES:
        return ROLES[path]
    if f"{section}.*" in ROLES and rest and not set(rest) & set(".["):
        return ROLES[f"{section}.*"]
    return PART if rest and (section in ROLES or f"{section}.*" in ROLES) else None


def targets(node: Any, path: str) -> Iterator[tuple[str, Mapping]]:
    """All nodes of plain data that have a `_target_`, or another of Hydra's special keys, with their paths."""
    if isinstance(node, Mapping):
        if any(re.fullmatch(r"_\w*_", str(key)) for key in node):
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from targets(value, f"{path}[{index}]")


def name_faults(node: Any, path: str = "") -> Iterator[str]:
    """One line for each `_target_` in plain data, at `path` of the config, that must not stand there by its name."""
    for place, options in targets(node, path):
        role = role_of(place)
        if role is None:
            yield f"{place}._target_: nothing is built here; only {', '.join(ROLES)} and their arguments are".lstrip(
                "."
            )
            continue
        for key in options:
            if re.fullmatch(r"_\w*_", str(key)) and key not in SPECIAL:
                yield f"{place}.{key} is not supported; name the arguments one by one"
        partial, allowed = options.get("_partial_", False), PARTIAL.get(place, (False,))
        if not any(partial is value for value in allowed):
            yield f"{place}._partial_ must be {' or '.join(map(str, allowed)).lower()}, got {partial!r}"
        target = options.get("_target_")
        if not isinstance(target, str) or not is_named(target, role):
            places = ", ".join(dict.fromkeys([*role.library, "mlplab", *trusted()]))
            yield (
                f"{place}._target_ must come from {places}, got {target!r}; "
                f"packages of your own are named in {PROJECT.name}: [tool.mlplab] trusted = [...]"
            )


def is_named(target: str, role: Role) -> bool:
    """Whether the dotted name is one that the role allows."""
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return False
    patterns = [pattern.split(".") for pattern in role.library]
    in_library = any(
        len(pattern) == len(parts) and all(map(lambda ours, wanted: wanted in ("*", ours), parts, pattern))
        for pattern in patterns
    )
    return in_library or _home(target) is not None


def is_own(target: Any) -> bool:
    """Whether the dotted name lies in a package that the user trusts, not in mlplab or a library."""
    return isinstance(target, str) and _home(target) not in ("mlplab", None)


def _home(target: str) -> str | None:
    """mlplab or the entry of the user's list that holds the name, None where neither does."""
    return next((entry for entry in ("mlplab", *trusted()) if f"{target}.".startswith(f"{entry}.")), None)


def trusted() -> tuple[str, ...]:
    """The packages, or single names, that the user's own pyproject.toml trusts beside those of the roles.

    Raises ConfigError when the file cannot be read.
    """
    return _trusted_by(PROJECT)


@functools.cache
def _trusted_by(project: Path) -> tuple[str, ...]:
    if not project.is_file():
        return ()
    try:
        tools = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{project} cannot be read: {first_line(error)}") from error
    entries = tools.get("mlplab", {}).get("trusted", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
        raise ConfigError(f"{project}: [tool.mlplab] trusted must be a list of package names, got {entries!r}")
    return tuple(entries)


# With the object at hand


def resolved(node: Any, path: str) -> Any:
    """A copy of plain data in which every `_target_` is the object that it names. Raises ConfigError as `resolve`."""
    if faults := list(name_faults(node, path)):
        raise ConfigError(*faults)
    return _resolved(node, path)


def _resolved(node: Any, path: str) -> Any:
    if isinstance(node, Mapping):
        objects = {"_target_": resolve(node["_target_"], path)} if "_target_" in node else {}
        return {key: _resolved(value, f"{path}.{key}") for key, value in node.items()} | objects
    if isinstance(node, list | tuple):
        return [_resolved(value, f"{path}[{index}]") for index, value in enumerate(node)]
    return node


def resolve(target: str, path: str) -> Any:
    """The class or function that the `_target_` at a dotted path names. Raises ConfigError unless it fits its role.

    Where an object lives is asked of the object: `mlplab.data.sources.Path.write_text` is no part of mlplab.
    """
    role = role_of(path)
    assert role is not None, "name_faults has looked at it"
    module, _, name = target.rpartition(".")
    target = f"{MOVED.get(module, module)}.{name}"
    try:
        found = pkgutil.resolve_name(target)
        base = pkgutil.resolve_name(role.base)
    except Exception as error:  # whatever the import of a module may raise
        raise ConfigError(f"{path}._target_: no {target} ({first_line(error)})") from error
    lives_in, name = str(getattr(found, "__module__", "")), str(getattr(found, "__qualname__", ""))
    home = _home(target)
    at_home = lives_in.partition(".")[0] == target.partition(".")[0] and "<" not in name
    if not at_home or not (_is_class(found, base, role) or (home and _is_function(found, base, role))):
        raise ConfigError(f"{path}._target_ must be {role.text}, got {target}")
    return found


def check_result(made: Any, path: str) -> None:
    """Raise ConfigError unless what a target gave is what its role says: annotations promise, they do not ensure."""
    role = role_of(path)
    if role is not None and not isinstance(made, pkgutil.resolve_name(role.base)):
        raise ConfigError(f"{path}._target_ must be {role.text}, but it gave a {type(made).__name__}")


def _is_class(found: Any, base: Any, role: Role) -> bool:
    if not role.classes or not inspect.isclass(found):
        return False
    if base is float:  # a schedule is an object that gives a number when called
        return _returns(found.__call__, float)
    return found is base if role is ROLES["trainer"] else issubclass(found, base) and found is not base


def _is_function(found: Any, base: Any, role: Role) -> bool:
    return role.functions and callable(found) and not inspect.isclass(found) and _returns(found, base)


def _returns(function: Any, base: type) -> bool:
    """Whether a function is annotated to return the class or one derived from it."""
    try:
        hint = get_type_hints(function).get("return")
    except Exception:  # an annotation may be any expression
        return False
    return inspect.isclass(hint) and issubclass(hint, base)
