"""What a child process does: one launch of train.py, or of the function behind it, with a fault at a chosen moment.

It is a child of multiprocessing's fork server, which has imported everything once, so that a launch does not pay for
importing torch and can be killed at will.
"""

import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
PRELOADED = [
    "pytest", "tensorboard", "torch.utils.tensorboard", "sklearn.datasets", "mlplab.cli", "mlplab.runs.train",
    "mlplab.callbacks.figures", "mlplab.callbacks.progress",
]  # fmt: skip

Fault = Callable[[], None]
"""Something to prepare in the child before it trains."""


# Launches


def run_command(arguments: list[str], *, start_at: float = 0.0) -> None:
    """`python train.py <arguments>`, from the time `start_at` on."""
    time.sleep(max(0.0, start_at - time.time()))
    sys.argv = [str(ROOT / "train.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def train(config: str) -> None:
    """Train as a YAML says that has been composed already, and end as the command does."""
    from omegaconf import OmegaConf

    from mlplab.runs import train as training

    end_as_the_command(lambda: training.train(OmegaConf.create(config)))


def resume(folder: Path) -> None:
    """Continue a run, and end as the command does."""
    from mlplab.runs import train as training

    end_as_the_command(lambda: training.resume(folder))


def end_as_the_command(launch: Callable[[], Any]) -> None:
    from mlplab.cli.words import errors_in_words

    sys.argv = ["train.py"]
    with errors_in_words():
        launch()


def main(
    launch: Callable, *arguments: Any, output: Path, cwd: Path, environment: dict[str, str], fault: Fault | None
) -> None:
    """What the process runs: `launch(*arguments)`, its output in a file."""
    import torch

    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # loader workers start as they do without a fork server
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(cwd)
    os.environ.update(environment)
    tempfile.tempdir = None  # so that TMPDIR is looked at
    if fault:
        fault()
    launch(*arguments)


# Faults


class Interrupted:
    """An exception, or a signal by its name, once `method` of the classifier has run with `update` updates done."""

    def __init__(self, how: str, update: int, method: str = "training_step", *, times: int = 1) -> None:
        self.how, self.update, self.method, self.times = how, update, method, times

    def __call__(self) -> None:
        once_after(self.update, self.method, self.interrupt)

    def interrupt(self) -> None:
        if self.how == "exception":
            raise RuntimeError("the power is gone")
        for _ in range(self.times):
            os.kill(os.getpid(), signal.Signals[self.how])


def once_after(update: int, method: str, act: Callable[[], None]) -> None:
    """Let `act` happen once, when `method` of the classifier has run with so many updates done."""
    from mlplab.models.classifier import Classifier

    original, left = getattr(Classifier, method), [True]

    def followed(module: Any, *arguments: Any) -> Any:
        outputs = original(module, *arguments)
        if left and module.trainer.global_step >= update and not module.trainer.sanity_checking:
            left.clear()
            act()
        return outputs

    setattr(Classifier, method, followed)


class KilledWhileSaving:
    """SIGKILL at a random moment of the save number `save`; `log` tells which saves began and which were done."""

    def __init__(self, save: int, log: Path, seed: int) -> None:
        self.save, self.log, self.seed = save, log, seed

    def __call__(self) -> None:
        from mlplab.runs import checkpoints

        write, seconds = checkpoints.write_checkpoint, [0.0]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        trigger = self.start_killer()

        def watched(content: dict[str, Any], path: Path) -> None:
            os.write(log, f"begun {path.name} {content['global_step']}\n".encode())
            if len(seconds) == self.save:
                os.write(trigger, f"{random.Random(self.seed).uniform(0, 1.2 * max(seconds)):.6f}".encode())
            start = time.perf_counter()
            write(content, path)
            seconds.append(time.perf_counter() - start)
            os.write(log, f"done {path.name} {content['global_step']}\n".encode())

        checkpoints.write_checkpoint = watched

    def start_killer(self) -> int:
        """A process that, told a number of seconds, kills this one after them; gives the pipe to tell it by."""
        victim, (reading, writing) = os.getpid(), os.pipe()
        if os.fork():
            os.close(reading)
            return writing
        os.close(writing)
        if delay := os.read(reading, 100):
            time.sleep(float(delay))
            os.kill(victim, signal.SIGKILL)
        os._exit(0)


class DiskFull:
    """The disk becomes full but for `free` KiB, once `method` of the classifier has run with `update` updates done."""

    def __init__(self, disk: Path, free: int, update: int, method: str) -> None:
        self.disk, self.free, self.update, self.method = disk, free, update, method

    def __call__(self) -> None:
        once_after(self.update, self.method, self.fill_up)

    def fill_up(self) -> None:
        shutil.copytree(self.disk / "run" / "checkpoints", self.disk.parent / "before", dirs_exist_ok=True)
        fill(self.disk, self.free)


def fill(disk: Path, free: int) -> None:
    """Take up all space but so many KiB."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
        file.truncate(file.tell() - free * 1024)


class Paused:
    """Training waits before its first update until there is a file `go`."""

    def __init__(self, go: Path) -> None:
        self.go = go

    def __call__(self) -> None:
        from mlplab.models.classifier import Classifier

        step = Classifier.training_step

        def waiting(module: Any, *arguments: Any) -> Any:
            while not self.go.exists():
                time.sleep(0.02)
            return step(module, *arguments)

        Classifier.training_step = waiting  # type: ignore[method-assign]


def in_the_same_second() -> None:
    """The clock by which runs are named stands still."""
    from mlplab.sweeps import grid

    grid.datetime = SimpleNamespace(now=lambda: datetime(2026, 1, 1))  # type: ignore[misc, assignment]


def little_memory() -> None:
    """The process may take 256 MB more than it has."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
