"""Whether two run folders hold the same run, to the bit."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlplab.files import read_checkpoint
from mlplab.runs.record import Record

TIMES = {"started", "finished", "fit_seconds", "seconds"}
OF_THE_LAUNCH = {"loops", "epoch", "current_score", "git_commit"}
"""What Lightning notes of a launch and does not read back; the commit, since the code may be worked on meanwhile."""
OF_THE_FOLDER = {"config_digest", "folder", "dirpath", "best_model_path", "kth_best_model_path", "best_k_models",
                 "last_model_path", "logs"}  # fmt: skip


def differences(whole: Path, other: Path) -> list[str]:
    """One line for each thing in which two run folders differ, times aside."""
    return [line for name, read in READERS.items() for line in compared(read(whole), read(other), name)]


def compared(one: Any, other: Any, place: str) -> Iterator[str]:
    """Where two nested values differ; numbers and tensors must be equal to the last bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            yield f"{place}: {sorted(map(str, one.keys() ^ other.keys()))} in one of them only"
        for key in one.keys() & other.keys() - TIMES - OF_THE_FOLDER - OF_THE_LAUNCH:
            yield from compared(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from compared(left, right, f"{place}[{index}]")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield f"{place}: other tensors"
    elif type(one) is not type(other) or (one != other and not (one != one and other != other)):
        yield f"{place}: {str(one)[:100]} | {str(other)[:100]}"


def record(folder: Path) -> dict[str, Any]:
    values = dict(Record.read(folder).values)
    values["test_evaluations"] = len(values["test_evaluations"])
    return values


def checkpoint(name: str) -> Callable[[Path], dict[str, Any]]:
    def read(folder: Path) -> dict[str, Any]:
        content = read_checkpoint(folder / "checkpoints" / name)
        content["callbacks"].pop("History")  # holds times; history.csv is compared
        return content

    return read


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric → (step, value) as logged, nothing left out."""
    if not (folder / "tensorboard").is_dir():
        return {}
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


READERS = {
    "result.json": record,
    "last.ckpt": checkpoint("last.ckpt"),
    "best.ckpt": checkpoint("best.ckpt"),
    "history.csv": history,
    "TensorBoard": scalars,
}


def doubled(folder: Path) -> list[str]:
    """Metrics of which TensorBoard has a step twice."""
    return [tag for tag, values in scalars(folder).items() if len({step for step, _ in values}) < len(values)]
