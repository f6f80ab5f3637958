"""How a program ends: a line for each fault, and its exit code.

A user's mistake ends in exit code 2, a run that fails in exit code 1, neither with a traceback; HYDRA_FULL_ERROR=1
shows it.
"""

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence

from mlplab.config.targets import raised
from mlplab.errors import ConfigError, RunFailed, first_line
from mlplab.signals import Stopped

FULL_ERROR, ASKED = "HYDRA_FULL_ERROR", "MLPLAB_FULL_ERROR"
SHOW_TRACEBACK = os.environ.get(ASKED, os.environ.get(FULL_ERROR)) == "1"
"""What a person has asked for: FULL_ERROR is set for Hydra later, and processes started by this one inherit it."""
NOT_TO_BE_USED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """End the program with a line for each fault, and the exit code for it."""
    try:
        yield
    except (KeyboardInterrupt, Stopped) as error:
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        print(*stop.last_words(), sep="\n", file=sys.stderr)
        sys.exit(stop.exit_code)
    except Exception as error:
        if SHOW_TRACEBACK:
            traceback.print_exception(error)
        code, lines = in_words(error)
        print(*(f"error: {line}" for line in lines), sep="\n", file=sys.stderr)
        sys.exit(code)


def in_words(error: Exception) -> tuple[int, Sequence[str]]:
    """The exit code for an error, and what to say of it."""
    from hydra.errors import HydraException  # here, since importing them takes a while
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    if isinstance(error, ConfigError):
        return 2, error.faults
    if isinstance(error, HydraException | OmegaConfBaseException):
        return 2, [first_line(error)]
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return 2, [f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: {error.problem}"]
    if isinstance(error, OSError) and error.filename and error.errno in NOT_TO_BE_USED:
        return 2, [f"{error.filename}: {error.strerror}; check the path and its permissions"]
    if isinstance(error, RunFailed):
        return 1, str(error).splitlines()
    return 1, [f"{raised(error)}; {FULL_ERROR}=1 shows all of it"]
