"""What the terminal shows of a sweep: a line for each job that has ended, and below them how far the sweep is."""

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mlplab.errors import ConfigError, first_line
from mlplab.runs.record import RESULT, Record
from mlplab.sweeps.grid import Job

SECONDS_BETWEEN_LOOKS = 0.5


class SweepProgress:
    """Watches the folders of jobs that run in this process, or in others, or on other machines.

    As a context, prints a line for each of `jobs` as it ends; in a terminal also one line with the jobs done and the
    time left. `total` counts the jobs that had ended before as well.
    """

    def __init__(self, jobs: Sequence[Job], *, total: int) -> None:
        self.waiting, self.total, self.num_ended = list(jobs), total, 0
        self.console = Console(file=sys.stdout)  # this one, wherever a job's own output goes
        self._before = {job.label: changed_at(job) for job in jobs}
        self._start = self._last_end = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("jobs{task.fields[left]}"),
            console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total, completed=total - len(jobs), left="")

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._over.set()
        self._thread.join()
        self.look()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            self.look()

    def look(self) -> None:
        """Say what has ended since the last look, and what runs."""
        begun = [job for job in self.waiting if changed_at(job) != self._before[job.label]]
        if not begun and not self.num_ended:  # libraries and data are being loaded, which later jobs need not wait for
            self._start = time.monotonic()
        running = []
        for job in begun:
            with contextlib.suppress(ConfigError):
                result = Record.read(job.folder).values
                if result.get("status") == "running":
                    running.append(job.label)
                else:
                    self._end(job, result)
        done = self.total - len(self.waiting)
        self._bar.update(self._task, completed=done, description=", ".join(running[:2]), left=self.time_left())

    def _end(self, job: Job, result: dict[str, Any]) -> None:
        self.waiting.remove(job)
        self.num_ended += 1
        self._last_end = time.monotonic()
        number = f"{self.total - len(self.waiting):{len(str(self.total))}}/{self.total}"
        label = f"{job.label:{min(60, max(map(len, self._before)))}}"
        left = "" if self.console.is_terminal else self.time_left()
        self.console.print(
            number, label, ending(result) + left, sep="  ", markup=False, highlight=False, soft_wrap=True
        )

    def time_left(self) -> str:
        """From the jobs that have ended since the first began, all of them taken to be equally long."""
        if not self.num_ended or not self.waiting:
            return ""
        per_job, now = (self._last_end - self._start) / self.num_ended, time.monotonic()
        seconds = per_job * len(self.waiting) - (now - self._last_end)
        return f"  about {timedelta(seconds=max(0, round(seconds)))} left"


def changed_at(job: Job) -> int:
    """When the job's record was written last, in ns; 0 without one."""
    try:
        return (job.folder / RESULT).stat().st_mtime_ns
    except OSError:
        return 0


def ending(result: dict[str, Any]) -> str:
    """How a job ended: its scores and training time, or what went wrong."""
    status, metrics = result.get("status"), result.get("metrics", {})
    if status != "finished":
        error = str(result.get("error") or "")
        return first_line(error if error.startswith(f"{status}:") else f"{status}: {error}")
    scores = "".join(f"  {name} {metrics[name]:7.2%}" for name in ("val/acc", "test/acc") if name in metrics)
    return f"{status}{scores}  {result.get('fit_seconds', 0.0):8.1f} s"
