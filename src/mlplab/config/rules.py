"""Kinds of rules for values that a person can set, and the error that names key, value and rule."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlplab.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """What a value must be: `text` completes the sentence "… must be", `holds` decides."""

    text: str
    holds: Callable[[Any], bool]

    def fault(self, key: str, value: Any) -> str | None:
        """The one-line message when `value` breaks the rule, else None."""
        return None if self.holds(value) else f"{key} must be {self.text}, got {value!r}"

    def require(self, key: str, value: Any) -> None:
        """Raise ConfigError when `value` breaks the rule."""
        if fault := self.fault(key, value):
            raise ConfigError(fault)

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(f"{self.text} or {other.text}", lambda value: self.holds(value) or other.holds(value))


def integer(least: int, most: int | None = None) -> Rule:
    """Whole numbers from `least` to `most`, both included; booleans and floats such as 1.0 are not."""
    return Rule(
        f"an integer ≥ {least}" if most is None else f"an integer from {least} to {most}",
        lambda value: type(value) is int and value >= least and (most is None or value <= most),
    )


def number(*, least: float | None = None, above: float | None = None, most: float | None = None,
           below: float | None = None) -> Rule:  # fmt: skip
    """Finite real numbers within the given bounds."""
    bounds = [("≥", least), (">", above), ("≤", most), ("<", below)]
    text = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def holds(value: Any) -> bool:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= sys.float_info.max  # neither NaN nor infinite, nor an integer beyond any float
            and (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
        )

    return Rule(f"a finite number {text}".rstrip(), holds)


def one_of(*choices: Any) -> Rule:
    """Exactly one of the named values; 1 is not taken for True."""
    text = " or ".join("null" if choice is None else repr(choice) for choice in choices)
    return Rule(text, lambda value: any(type(value) is type(choice) and value == choice for choice in choices))


def each(rule: Rule, *, empty: bool = True, length: int | None = None) -> Rule:
    """Lists and tuples of which every item keeps `rule`."""

    def holds(value: Any) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str) or length not in (None, len(value)):
            return False
        return (empty or len(value) > 0) and all(map(rule.holds, value))

    return Rule(f"a list{'' if length is None else f' of {length}'} in which each is {rule.text}", holds)


NULL, SWITCH, AUTO = one_of(None), one_of(True, False), one_of("auto")
MAPPING = Rule("keys with values", lambda value: isinstance(value, dict))
TEXT = Rule("a text", lambda value: isinstance(value, str) and value != "")
PATH = Rule(  # what a URL leads to may change, and be anything
    "a path on this machine (download a URL first)",
    lambda value: isinstance(value, str) and value.strip() != "" and "://" not in value and "\0" not in value,
)
