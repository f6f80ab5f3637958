"""What the terminal shows of a sweep: a line for each job that has ended, and below them how far the sweep is."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mlplab.errors import ConfigError, first_line
from mlplab.runs.record import RESULT, Record
from mlplab.sweeps.grid import Job


@contextlib.contextmanager
def looking(look: Callable[[], Any]) -> Iterator[None]:
    """Within the context call `look` twice a second, in a thread, until it gives True."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5) and not look():
            pass

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class SweepProgress:
    """Watches the folders of jobs that run in this process, or in others, or on other machines.

    Prints a line for each of `jobs` as it ends; in a terminal also one line with what runs and the time left.
    `total` counts the jobs that had ended before as well.
    """

    def __init__(self, jobs: Sequence[Job], *, total: int) -> None:
        self.waiting, self.total, self.left = list(jobs), total, ""
        self.note, self.going_on = "", dict[Job, str]()  # of who runs the jobs: what it says, what it has not given up
        self.console = Console(file=sys.stdout)  # this one, wherever a job's own output goes
        is_narrow = self.console.is_terminal or "COLUMNS" in os.environ
        self.room = self.console.width if is_narrow else sys.maxsize
        self.live = Live(console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False)
        self.before = {job: changed_at(job) for job in jobs}
        self.width = min(60, max((len(job.label) for job in jobs), default=0))
        self.start = time.monotonic()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Within the context, show what happens."""
        with self.live:
            try:
                with looking(self.look):
                    yield
            finally:
                self.look()

    def look(self) -> None:
        """Say what has ended since the last look, and what runs."""
        begun = [job for job in self.waiting if changed_at(job) != self.before[job]]
        if not begun and not self.left:  # libraries and data are being loaded, which later jobs need not wait for
            self.start = time.monotonic()
        running = []
        for job in begun:
            with contextlib.suppress(ConfigError):
                result = Record.read(job.folder).values
                status = result.get("status")
                if status == "stopped" and job in self.going_on:
                    continue
                if status == "running":
                    running.append(job.label)
                else:
                    self.waiting.remove(job)
                    self.show_end(job, result)
        number = f"{self.total - len(self.waiting)}/{self.total} jobs"
        shown = filter(None, [number + self.left, self.note, *running[:2]])
        self.live.update(Text("  ".join(shown), no_wrap=True, overflow="ellipsis"))

    def show_end(self, job: Job, result: dict[str, Any]) -> None:
        """A line with how the job ended, and how long the others take if all are equally long."""
        per_job = (time.monotonic() - self.start) / (len(self.before) - len(self.waiting))
        self.left = f"  about {timedelta(seconds=round(per_job * len(self.waiting)))} left" if self.waiting else " "
        number = f"{self.total - len(self.waiting):{len(str(self.total))}}/{self.total}"
        label = f"{job.label:{self.width}}"
        columns = [*ending(result), *([] if self.console.is_terminal else self.left.split("  ")[1:])]
        while len("  ".join([number, label, *columns])) > self.room and len(columns) > 1:
            columns.pop(0 if columns[0] == "finished" else -1)  # what the scores say as well, then the least needed
        self.say("  ".join([number, label, *columns]))

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def changed_at(job: Job) -> int:
    """When the job's record was written last, in ns; 0 without one."""
    try:
        return (job.folder / RESULT).stat().st_mtime_ns
    except OSError:
        return 0


def ending(result: dict[str, Any]) -> list[str]:
    """How a job ended: its scores and training time, or what went wrong, in columns."""
    status, metrics = result.get("status"), result.get("metrics", {})
    if status != "finished":
        error = str(result.get("error") or "")
        return [first_line(error if error.startswith(f"{status}:") else f"{status}: {error}")]
    scores = [f"{name} {metrics[name]:7.2%}" for name in ("val/acc", "test/acc") if name in metrics]
    return [status, *scores, f"{result.get('fit_seconds', 0.0):8.1f} s"]
