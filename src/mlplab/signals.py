"""Stopping in good order: what SIGINT, SIGTERM and SLURM's warning signal mean to a run."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from mlplab import cluster

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""The last two only where SLURM runs the job: it sends one of them some time before it takes the machine away."""

_request: int | None = None
_waits = _ends_imports = False


class Stopped(BaseException):
    """A signal ended the run. No Exception, so that nothing but the command itself takes note of it."""

    def __init__(self, number: int, *, at: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{at}")
        self.signal = number
        self.advice: list[str] = []  # how to continue, a line each

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal

    def last_words(self) -> list[str]:
        """What to tell of the end of this process, line by line, once SLURM is asked to start its job again."""
        return [str(self), *self.advice, *filter(None, [cluster.requeue(self.signal)])]


def pending() -> int | None:
    """The number of a signal that asks this process to stop, None without one."""
    return _request


@contextlib.contextmanager
def caught(*, ends_imports: bool = False) -> Iterator[None]:
    """Within this context, signals raise Stopped: at once, or after `wait()` where the run says so by `pending()`.

    With `ends_imports`, one that comes while a module is being imported ends the process then and there.
    """
    global _request, _waits, _ends_imports
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    earlier, outside = {number: signal.getsignal(number) for number in handled()}, _ends_imports
    _request, _waits, _ends_imports = None, False, ends_imports
    install()
    try:
        yield
    finally:
        _waits, _ends_imports = False, outside
        for number, handler in earlier.items():
            signal.signal(number, handler)


def install() -> None:
    """Take the handlers (again: Lightning sets one of its own for SIGTERM)."""
    if threading.current_thread() is threading.main_thread():
        for number in handled():
            signal.signal(number, _handle)


def wait(graceful: bool = True) -> None:
    """From now on a first signal is only noted, for the run to stop at the next moment from which it can continue."""
    global _waits
    _waits = graceful


def handled() -> tuple[int, ...]:
    return STOPPING if "SLURM_JOB_ID" in os.environ else STOPPING[:2]


def _handle(number: int, frame: FrameType | None) -> None:
    global _request
    first, _request = _request is None, number
    if _waits and first:
        return
    stop = Stopped(number)
    if _ends_imports and _is_importing(frame):  # libraries catch what is raised there, or complain of it at the end
        os.write(2, "".join(f"{line}\n" for line in stop.last_words()).encode())
        os._exit(stop.exit_code)
    raise stop


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None
