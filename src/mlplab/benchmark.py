"""Times mlplab side by side with what people write otherwise; tables, JSON and a plot of the ratios."""

import contextlib
import dataclasses
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from mlplab.baselines import (
    EpochClock,
    Workload,
    loop_over_loader,
    loop_over_tensors,
    plain_lightning,
    plain_validation,
)
from mlplab.config.check import CONF
from mlplab.errors import ConfigError
from mlplab.figure_cost import figure_cost
from mlplab.files import now, write_atomically
from mlplab.runs import build, facts
from mlplab.speed_tables import COMPILED, LOOP_LOADER, LOOP_TENSORS, MLPLAB, PLAIN, markdown, plot

FIGURES = "figures"
"""The name by which `only` asks for the cost of figures."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """A workload by name: the overrides of train.py that make it, and how many updates an epoch of it has."""

    name: str
    overrides: tuple[str, ...]
    updates: int
    batch_size: int
    augment: bool = False


def cases() -> list[Case]:
    """`passing` with 2-16-8-1 at batch 1 and 32, CIFAR-10's shape with 3072-256-128-10 and dropout at 1 to 512."""
    passing = [
        Case(f"passing, batch {batch_size},", ("data=passing", "model=mlp", "optimizer.lr=0.01"), updates, batch_size)
        for batch_size, updates in ((1, 3000), (32, 2000))
    ]
    images = ("data=noise_images", "model=mlp_dropout", "model.hidden_sizes=[256,128]", "optimizer.lr=0.01")
    flips = ("data.augmentation.flip=0.5", "data.augmentation.crop=2")
    cifar = [
        Case(
            f"CIFAR-10 shape, batch {batch_size},{' augmented' if augment else ''}",
            images + (flips if augment else ()), updates, batch_size, augment,
        )
        for augment, sizes in (
            (False, ((1, 1500), (32, 500), (128, 120), (512, 88))),
            (True, ((1, 500), (32, 200), (128, 180), (512, 20))),  # fewer: transforms of single samples take long
        )
        for batch_size, updates in sizes
    ]  # fmt: skip
    return passing + cifar


def benchmark(config: DictConfig) -> None:
    """Run all cases that `config.only` names; print the table and write benchmark.json, .md and .png."""
    build.quiet_libraries()
    chosen = [case for case in cases() if not config.only or any(str(part) in case.name for part in config.only)]
    figures = not config.only or FIGURES in config.only
    if not chosen and not figures:
        there = [FIGURES, *(case.name for case in cases())]
        raise ConfigError(f"only={list(config.only)} names no workload; there are: {there}")
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"when": now(), "hardware": facts.hardware(), "git_commit": facts.git_commit()}
    report["torch"] = torch.__version__
    with quiet_progress(), tempfile.TemporaryDirectory() as scratch, compile_cache(f"{scratch}/compiled"):
        report["updates"] = [
            measure(case, config, Path(scratch)) for case in track(chosen, "Workloads", disable=not sys.stderr.isatty())
        ]
        if figures:
            report["figures"] = figure_cost(config, Path(scratch))
        if not config.only:
            report["evaluation"] = measure_evaluation(config, Path(scratch))
            report["scaling"] = measure_scaling(config, Path(scratch))
            report["process"] = measure_process(config, Path(scratch))
    write_atomically(folder / "benchmark.json", json.dumps(report, indent=2) + "\n")
    write_atomically(folder / "benchmark.md", markdown(report))
    if chosen:
        plot(report).savefig(folder / "benchmark.png", dpi=110)
    Console().print(markdown(report), highlight=False, soft_wrap=True)


@contextlib.contextmanager
def quiet_progress() -> Iterator[None]:
    """Without the lines about the progress of each of the many runs."""
    progress = logging.getLogger("mlplab.callbacks.progress")
    level = progress.level
    progress.setLevel(logging.WARNING)
    try:
        yield
    finally:
        progress.setLevel(level)


@contextlib.contextmanager
def compile_cache(folder: str) -> Iterator[None]:
    """An empty folder for what torch.compile keeps, so that the first repetition compiles from nothing."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = folder
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


# Measuring


def measure(case: Case, config: DictConfig, scratch: Path) -> dict[str, Any]:
    """Microseconds per update of every contender: one epoch after a first that is not counted, contenders in turn."""
    work = workload(case, config, scratch)
    contenders: dict[str, Callable[[], list[float]]] = {
        LOOP_LOADER: lambda: loop_over_loader(work, epochs=2),
        LOOP_TENSORS: lambda: loop_over_tensors(work, epochs=2),
        PLAIN: lambda: plain_lightning(work, epochs=2, folder=scratch),
        MLPLAB: lambda: mlplab_epochs(case, config, scratch, compile="false"),
        COMPILED: lambda: mlplab_epochs(case, config, scratch, compile="true"),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    first: list[float] = []
    for _ in range(config.repetitions):
        for name, run in contenders.items():
            torch.set_num_threads(os.cpu_count() or 1)
            torch.use_deterministic_algorithms(False)  # mlplab switches it on for itself
            with contextlib.redirect_stdout(io.StringIO()):  # plain Lightning's progress bar
                warm_up, epoch = run()
            times[name].append(epoch / case.updates * 1e6)
            if name == COMPILED:
                first.append(warm_up - epoch)
    torch.set_num_threads(os.cpu_count() or 1)
    log.info(
        "%s: %s", case.name.rstrip(","), {name: round(statistics.median(values)) for name, values in times.items()}
    )
    return {"case": case.name, "batch_size": case.batch_size, "us_per_update": times, "compile_seconds": first}


def lab_config(case: Case, config: DictConfig, scratch: Path, *overrides: str) -> DictConfig:
    """The config of train.py with all its default callbacks, for this case, in a scratch folder."""
    samples = case.updates * case.batch_size
    val_samples = max(1000, samples // 10)
    total = samples + val_samples
    folder = Path(tempfile.mkdtemp(dir=scratch))
    return compose("train", [
        *case.overrides, f"data.batch_size={case.batch_size}", f"data.num_samples={total}", "data.test_fraction=0",
        f"data.val_fraction={val_samples / total}", "trainer.max_epochs=2", "~callbacks.network_summary",
        f"trainer.accelerator={config.accelerator}", f"folder={folder}", "compile=false", *overrides,
    ])  # fmt: skip


def workload(case: Case, config: DictConfig, scratch: Path) -> Workload:
    """The same data, network and optimizer for the baselines."""
    lab = lab_config(case, config, scratch)
    device = build.evaluation_trainer(lab, accelerator=config.accelerator).strategy.root_device
    dropout, rate = float(lab.model.dropout), float(lab.optimizer.lr)
    return Workload(build.data_module(lab), tuple(lab.model.hidden_sizes), dropout, rate, case.augment, device)


def mlplab_epochs(case: Case, config: DictConfig, scratch: Path, *overrides: str, compile: str) -> list[float]:
    """Seconds of each epoch as `train.py` runs it: callbacks, checkpoints, TensorBoard."""
    lab = lab_config(case, config, scratch, f"compile={compile}", *overrides)
    data = build.data_module(lab)
    classifier = build.classifier(lab, data)
    build.set_threads(lab, classifier)
    trainer, clock = build.trainer(lab, data), EpochClock()
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(clock)
    trainer.fit(classifier, datamodule=data)
    return clock.seconds


def measure_evaluation(config: DictConfig, scratch: Path) -> dict[str, list[float]]:
    """Seconds to evaluate 10,000 images: mlplab's way, and plain Lightning's at the training batch size, which is 1."""
    case = Case("evaluation", cases()[-1].overrides, updates=2, batch_size=1)
    lab = lab_config(case, config, scratch, "data.num_samples=10002", "data.val_fraction=0.9998")
    data = build.data_module(lab)
    classifier = build.classifier(lab, data)
    work = dataclasses.replace(workload(case, config, scratch), data=data)
    times: dict[str, list[float]] = {"mlplab": [], "plain Lightning": []}
    for _ in range(config.repetitions):
        trainer = build.evaluation_trainer(lab, accelerator=config.accelerator)
        start = time.perf_counter()
        trainer.validate(classifier, datamodule=data, verbose=False)
        times["mlplab"].append(time.perf_counter() - start)
        times["plain Lightning"].append(plain_validation(work, folder=scratch))
    return times


def measure_scaling(config: DictConfig, scratch: Path) -> dict[str, list[float]]:
    """Seconds per epoch of `passing` at batch 32 for growing numbers of samples."""
    times: dict[str, list[float]] = {}
    for samples in (1_000, 10_000, 100_000):
        case = Case("", cases()[1].overrides, updates=samples // 32, batch_size=32)
        runs = [mlplab_epochs(case, config, scratch, compile="false")[1] for _ in range(config.repetitions)]
        times[str(samples)] = runs
    return times


def measure_process(config: DictConfig, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """Whole processes that make one update on CIFAR-10's shape and end: seconds, and peak memory in MB (Linux)."""
    hand_written = (
        "import torch; from torch import nn; from torch.utils.data import DataLoader, TensorDataset;"
        "data = TensorDataset(torch.rand(2000, 3072), torch.randint(0, 10, (2000,)));"
        "net = nn.Sequential(nn.Linear(3072, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10));"
        "opt = torch.optim.SGD(net.parameters(), lr=0.01); x, y = next(iter(DataLoader(data, 32, shuffle=True)));"
        "nn.functional.cross_entropy(net(x), y).backward(); opt.step()"
    )
    train = [
        "train.py", "data=noise_images", "model=mlp_dropout", "model.hidden_sizes=[256,128]", "trainer.max_steps=1",
        "test=false", f"trainer.accelerator={config.accelerator}",
    ]  # fmt: skip
    # What the system reports of a child begins with the memory of its parent; so the children report it themselves.
    peak = "import re; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    as_script = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    commands = {"hand-written loop": [f"{hand_written}; {peak}"], "train.py": [f"{as_script}; {peak}", *train]}
    figures: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "megabytes": []} for name in commands}
    for _ in range(config.repetitions):
        for name, arguments in commands.items():
            folder = [f"hydra.run.dir={tempfile.mkdtemp(dir=scratch)}"] if name == "train.py" else []
            start = time.perf_counter()
            command = [sys.executable, "-c", *arguments, *folder]
            process = subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True, check=True)
            figures[name]["seconds"].append(time.perf_counter() - start)
            figures[name]["megabytes"].append(float(process.stdout.split()[-1]) / 1024)
    return figures
