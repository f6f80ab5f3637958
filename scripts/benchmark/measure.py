"""The same work for every contender, in turn: what an update takes, with its share of the validations."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import baselines
import lightning.pytorch as pl
import torch
from baselines import EPOCHS, EpochClock, Workload
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rivals import RIVALS

from mlplab.files import now
from mlplab.runs import build, facts
from mlplab.runs.passes import epochs_per_validation

PASSING = ("data=passing", "model=mlp_sequential", "optimizer.lr=0.01")  # 2-16-8-1
IMAGES = ("data=noise_images", "model=mlp_dropout", "model.hidden_sizes=[256,128]", "optimizer.lr=0.01")
AUGMENTED = (*IMAGES, "data.augmentation.flip=0.5", "data.augmentation.crop=2")


def report(names: Sequence[str], config: DictConfig) -> dict[str, Any]:
    """What MEASUREMENTS of these names give, and what machine they were made on. All files are removed again."""
    logging.getLogger("mlplab.callbacks.progress").setLevel(logging.WARNING)
    build.quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        # An empty folder for what torch keeps, so that the first repetition compiles from nothing.
        tempfile.tempdir, os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch, f"{scratch}/compiled"
        device = build.evaluation_trainer(lab_config(config), accelerator=config.accelerator).strategy.root_device
        about = {"hardware": facts.hardware(device), "git_commit": facts.git_commit(), "torch": torch.__version__}
        rows = track(names, "Measuring", console=Console(stderr=True))
        return {"when": now(), **about, "measured": {name: MEASUREMENTS[name](config) for name in rows}}


def in_turn(contenders: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, list[Any]]:
    """What each contender gives in each repetition; every other one goes through them backwards."""
    given: dict[str, list[Any]] = {name: [] for name in contenders}
    for repetition in range(repetitions):
        for name in list(contenders)[:: -1 if repetition % 2 else 1]:
            torch.set_num_threads(os.cpu_count() or 1)
            torch.use_deterministic_algorithms(False)  # mlplab switches it on for itself
            with contextlib.redirect_stdout(io.StringIO()):  # plain Lightning's progress bar
                given[name].append(contenders[name]())
    return given


def lab_config(config: DictConfig, *overrides: str) -> DictConfig:
    """The config of train.py with all its default callbacks, in a folder of its own."""
    own = ("~callbacks.network_summary", f"trainer.accelerator={config.accelerator}", f"folder={tempfile.mkdtemp()}")
    return compose("train", ["compile=false", *overrides, *own])


def fit(config: DictConfig, clock: pl.Callback) -> None:
    """Train as train.py does. The clock is the last of the callbacks, so that it sees what the others take."""
    data = build.data_module(config)
    classifier = build.classifier(config, data)
    build.set_threads(config, data, classifier)
    trainer: Any = build.trainer(config, data)
    trainer.callbacks.append(clock)
    trainer.fit(classifier, datamodule=data)


def mlplab(work: Workload, *, compile: bool = False) -> list[float]:
    """As train.py trains: with callbacks, checkpoints and TensorBoard."""
    again: Any = OmegaConf.merge(work.config, {"compile": compile, "folder": tempfile.mkdtemp()})
    fit(again, clock := EpochClock())
    return clock.seconds


CONTENDERS: dict[str, Callable[[Workload], list[float]]] = {
    "loop over DataLoader": baselines.loop_over_loader,
    "loop over tensors": baselines.loop_over_tensors,
    "plain Lightning": baselines.plain_lightning,
    "mlplab": mlplab,
    "mlplab compiled": partial(mlplab, compile=True),
    **RIVALS,
}
"""Name → what trains a workload and gives the seconds of each epoch. Those named mlplab are compared to the others."""


def workload(
    overrides: Sequence[str], config: DictConfig, *, batch_size: int | str, train: int, val: int, epochs: int = EPOCHS
) -> Workload:  # fmt: skip
    """So many training and validation samples, and nothing to test."""
    lab = lab_config(
        config, *overrides, f"data.batch_size={batch_size}", f"data.num_samples={train + val}", "data.test_fraction=0",
        f"data.val_fraction={val / (train + val)}", f"trainer.max_epochs={epochs}",
    )  # fmt: skip
    device = build.evaluation_trainer(lab, accelerator=config.accelerator).strategy.root_device
    data = build.data_module(lab)
    return Workload(lab, data, build.classifier(lab, data), device)


def on_best_threads(work: Workload, train: Callable[[Workload], list[float]]) -> list[float]:
    """As many threads for every contender as mlplab takes: those of short updates would only wait for each other."""
    build.set_threads(work.config, work.data, work.classifier)
    return train(work)


def training(overrides: Sequence[str], batch_size: int, updates: int, config: DictConfig) -> dict[str, Any]:
    """The seconds of both epochs, contender by contender; the first warms up, or compiles, and does not count."""
    samples = updates * batch_size
    work = workload(overrides, config, batch_size=batch_size, train=samples, val=max(1000, samples // 10))
    contenders = {name: partial(on_best_threads, work, train) for name, train in CONTENDERS.items()}
    return {"updates": updates, "seconds": in_turn(contenders, config.repetitions)}


def short_epochs(overrides: Sequence[str], batch_size: int | str, epochs: int, config: DictConfig) -> dict[str, Any]:
    """The seconds of many short epochs, with as many validations in the loop as in mlplab."""
    work = workload(overrides, config, batch_size=batch_size, train=700, val=150, epochs=epochs)
    every = epochs_per_validation(work.config, work.data)

    def loop(work: Workload) -> list[float]:
        return baselines.loop_over_tensors(work, epochs=epochs, every=every)

    contenders = {
        name: lambda train=train: [0.0, sum(on_best_threads(work, train))]
        for name, train in {"loop over tensors": loop, "mlplab": mlplab}.items()
    }
    return {"updates": epochs * work.data.updates_per_epoch, "seconds": in_turn(contenders, config.repetitions)}


def busy(config: DictConfig) -> dict[str, list[dict[str, float]]]:
    """Seconds of training by itself, and beside two processes that never rest."""

    def seconds(*overrides: str) -> dict[str, float]:
        taken = []
        for others in (0, 2):
            loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
            try:
                fit(lab_config(config, *overrides), clock := EpochClock())
            finally:
                for process in loops:
                    process.kill()
            taken.append(sum(clock.seconds))
        return {"idle, s": taken[0], "busy, s": taken[1], "busy : idle": taken[1] / taken[0]}

    jobs = {"experiment=digits_mlp": partial(seconds, "experiment=digits_mlp")} | {
        f"CIFAR-10 shape, batch {size}": partial(
            seconds, *IMAGES, f"data.batch_size={size}", "data.num_samples=12800", f"trainer.max_epochs={EPOCHS}"
        )
        for size in (32, 128)
    }
    return in_turn(jobs, config.repetitions)


MEASUREMENTS: dict[str, Callable[[DictConfig], dict[str, Any]]] = {
    **{
        f"{name}, batch {size}": partial(training, overrides, size, updates)
        for name, overrides, epochs in (
            ("passing", PASSING, {1: 3000, 32: 2000}),
            ("CIFAR-10 shape", IMAGES, {1: 1500, 32: 500, 128: 120, 512: 88}),
            ("CIFAR-10 shape, augmented", AUGMENTED, {1: 500, 32: 200, 128: 180, 512: 20}),  # fewer: it takes long
        )
        for size, updates in epochs.items()  # batch size → updates in an epoch
    },
    "short epochs, full batch": partial(short_epochs, PASSING, "full", 1000),
    "short epochs, full batch, each validated": partial(
        short_epochs, (*PASSING, "trainer.check_val_every_n_epoch=1"), "full", 1000
    ),
    "short epochs, batch 32": partial(short_epochs, PASSING, 32, 50),
    "busy": busy,
}
