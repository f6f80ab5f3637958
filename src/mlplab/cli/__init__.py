"""The frame around every command: a program imports it first, and it imports nothing that takes long.

So a signal ends in one line from the first moment on, and `--help` and config errors answer at once.
"""

import functools
import io
import sys
from collections.abc import Callable
from typing import Any

from mlplab import signals


def command(config_name: str, *, bare_paths: str | None = None) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Make a function of the composed config (a DictConfig) the program's entry point, under `conf/<config_name>.yaml`.

    Paths among the arguments that are no value of any key become the list of the key `bare_paths`.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def entry_point() -> None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")  # what it cannot show must not end the program
            with signals.caught(ends_imports=True):
                from mlplab.cli.words import errors_in_words  # here, where a signal is seen to

                with errors_in_words():
                    from mlplab.cli.launch import start

                    start(config_name, function, bare_paths=bare_paths)

        return entry_point

    return decorate
