"""Run folders as training writes them, without training: for reports any numbers will do."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mlplab.report.frames import grouped, read

HISTORY = (
    "epoch,updates,samples_seen,seconds,lr,train/loss,train/acc,val/loss,val/acc,gap/acc,weights/l2_norm,grad/noise"
)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder: make_run("a", {"optimizer": {"lr": 0.1}}, seed=1, **{"val/acc": 0.9})."""

    def make(
        name: str, config: dict[str, Any] | None = None, *, seed: int = 0, status: str = "finished",
        overrides: tuple[str, ...] = (), history: list[tuple[float, ...]] | None = None, result: dict | None = None,
        **metrics: float,
    ) -> Path:  # fmt: skip
        folder = tmp_path / name
        folder.mkdir(parents=True)
        values = {
            "status": status, "metrics": metrics, "seed": seed, "overrides": [*overrides, f"seed={seed}"],
            "command": "train.py " + " ".join([*overrides, f"seed={seed}"]), "updates": 10, "epochs": 5,
            "samples_seen": 80, "batch_size": 16, "samples": {"train": 16, "val": 8, "test": 8}, "parameters": 7,
            "fit_seconds": 1.5, "versions": {"torch": "2.15.0"}, "hardware": "2 CPU cores", "git_commit": "abc",
            "error": None,
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(values | (result or {})))
        whole = {"folder": str(folder), "seed": seed, **(config or {})}
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(whole)))
        if history:
            rows = "\n".join(",".join(map(str, row)) for row in history)
            (folder / "history.csv").write_text(f"{HISTORY}\n{rows}\n")
        return folder

    return make


def rows(*accuracies: float, updates: int = 2, seconds: float = 0.1) -> list[tuple[float, ...]]:
    """A history whose validation accuracy takes these values, one validation after `updates` updates each."""
    return [
        (i, i * updates, i * 16, i * seconds, 0.1, 1 / i, accuracy + 0.1, 1.1 / i, accuracy, 0.1, i, 0.5)
        for i, accuracy in enumerate(accuracies, start=1)
    ]


@pytest.fixture
def history() -> Callable[..., list[tuple[float, ...]]]:
    return rows


@pytest.fixture
def runs(make_run: Callable[..., Path]) -> Callable[..., tuple]:
    """Runs of dotted configs, as they are read: runs(({"optimizer.lr": 0.1}, {"seed": 1, "val/acc": 0.9}), …)."""
    numbers = itertools.count()

    def made(*rows: tuple[dict[str, Any], dict[str, Any]]) -> tuple:
        folders = []
        for config, options in rows:
            nested = OmegaConf.create()
            for key, value in config.items():
                OmegaConf.update(nested, key, value)
            folders.append(make_run(f"r{next(numbers)}", OmegaConf.to_container(nested), **options))
        return read(folders)[:2]

    return made


@pytest.fixture
def two_settings(runs: Callable[..., tuple]) -> Callable[..., list]:
    """Groups of two settings: two_settings("data.batch_size", "optimizer.lr", {(8, 0.1): accuracy, …})."""

    def made(first: str, second: str, scores: dict[tuple, float], **options: Any) -> list:
        rows = (({first: a, second: b}, {"val/acc": score, **options}) for (a, b), score in scores.items())
        return grouped(*runs(*rows))

    return made
