"""What a person is told when something is wrong: errors of one line for each fault, and the words they share."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any


class ConfigError(ValueError):
    """One or more mistakes of the user, one line each, to be shown without a traceback (exit code 2)."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.faults


class RunFailed(RuntimeError):
    """Training or evaluation ended badly though the input was fine (exit code 1)."""


@contextlib.contextmanager
def noted(faults: list[str]) -> Iterator[None]:
    """Add the faults of a ConfigError to a list instead of raising it, so that others can be found too."""
    try:
        yield
    except ConfigError as error:
        faults += error.faults


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A closing question such as "; did you mean 'dropout'?", or an empty string if nothing is near."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def first_line(error: BaseException | str) -> str:
    """What an error says, cut to one line; its type where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine could not give as much memory as was asked for, by whatever library."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text
