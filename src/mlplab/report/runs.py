"""Run folders, found and read: result.json, the resolved config flattened to dotted keys, history.csv."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mlplab.errors import ConfigError, first_line
from mlplab.runs.record import CONFIG, RESULT, Record

HISTORY = "history.csv"
SWEEP = "sweep.json"
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 50_000_000, 20_000, 40
"""Of a file, and of a config: a folder from a stranger may hold anything."""
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast


@dataclass(frozen=True)
class Run:
    """What one run folder holds: the config as dotted key → value, the study it belongs to, the history if any.

    A job that failed before it had written a config has an empty one."""

    folder: Path
    result: dict[str, Any]
    config: dict[str, Any]
    study: dict[str, Any] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def status(self) -> str:
        return str(self.result.get("status", "unknown"))

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @cached_property
    def overrides(self) -> dict[str, str]:
        """Key → value as they were typed for this run."""
        overrides = self.result.get("overrides")
        pairs = (str(item).partition("=") for item in overrides) if isinstance(overrides, list) else ()
        return {key.lstrip("+~"): value for key, _, value in pairs}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics of result.json, and the last known value of what only history.csv holds."""
        metrics = self.result.get("metrics")
        final = {str(name): number(value) for name, value in metrics.items()} if isinstance(metrics, dict) else {}
        last = {
            name: float(values[np.isfinite(values)][-1])
            for name, values in self.columns.items()
            if ("/" in name or name in ("lr", "seconds")) and np.isfinite(values).any()
        }
        return last | final

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The history, column by column."""
        return {str(name): values.to_numpy(dtype=float) for name, values in self.history.items()}


def find(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """All run folders at or below the folders, each once, and one line for each folder that has none."""
    found: dict[Path, Path] = {}
    skipped = []
    for folder in folders:
        if not folder.is_dir():
            skipped.append(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
            continue
        below = list(run_folders(folder))
        if not below:
            skipped.append(f"{folder}: no run in it (a run folder holds a {RESULT})")
        for path in below:
            found.setdefault(path.resolve(), path)
    return list(found.values()), skipped


def run_folders(folder: Path) -> Iterator[Path]:
    """The run folders at or below a folder, in the order of their names; there are none within a run folder."""
    for path, subfolders, files in os.walk(folder):
        if RESULT in files:
            subfolders.clear()
            yield Path(path)
        subfolders.sort()


def read(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs of run folders in the order they were started, and one line for each file that cannot be used."""
    runs: list[Run] = []
    skipped: list[str] = []
    for folder in folders:
        try:
            record = Record.read(folder)
            config = read_config(folder / CONFIG) if began(record, folder) else {}
        except ConfigError as error:
            skipped += error.faults
            continue
        except RecursionError:
            skipped.append(f"{folder / RESULT} cannot be read: it is nested too deeply")
            continue
        try:
            history = read_history(folder / HISTORY)
        except ConfigError as error:
            history = pd.DataFrame()
            skipped += [f"{fault}; the run is counted, its curves are left out" for fault in error.faults]
        study = config.pop("study", None)
        runs.append(Run(folder, record.values, dict(flat(config)), study if isinstance(study, dict) else {}, history))
    return sorted(runs, key=lambda run: (str(run.result.get("started", "")), str(run.folder))), skipped


def began(record: Record, folder: Path) -> bool:
    """Whether a run came as far as writing its config: a job of a sweep may fail before that."""
    return record.values.get("status") != "failed" or (folder / CONFIG).exists()


def read_config(path: Path) -> dict[str, Any]:
    """A resolved config as plain values. Raises ConfigError when it is missing or damaged."""
    text = read_text(path)
    try:
        config = yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} does not hold a config")
    check_size(config, path)
    return config


def check_size(config: Any, path: Path) -> None:
    """Raise ConfigError for a config that is out of all proportion, as YAML's references can make it."""
    waiting, values = [(config, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > MAX_VALUES or depth > MAX_DEPTH:
            raise ConfigError(f"{path} is no config of a run: too many values, or nested too deeply")
        if isinstance(value, dict | list):
            waiting += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]


def flat(config: dict[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """`{"data": {"batch_size": 8}}` as `data.batch_size`, 8; lists become the text that one types for them."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        elif isinstance(value, list):
            yield f"{path}{key}", json.dumps(value, default=str, separators=(",", ":")).replace('"', "")
        else:
            yield f"{path}{key}", value


def read_history(path: Path) -> pd.DataFrame:
    """The rows of history.csv as numbers, by updates; empty where there is no file.

    Raises ConfigError when it is damaged.
    """
    if not path.exists():
        return pd.DataFrame()
    check_file(path)
    try:
        rows = pd.read_csv(path)
    except (ValueError, OSError, RecursionError) as error:  # pandas' parser errors are ValueErrors
        raise ConfigError(f"{path} cannot be read: {first_line(error)}") from error
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in rows.dtypes):
        rows = rows.apply(pd.to_numeric, errors="coerce")
    if "updates" not in rows or not len(rows) or rows["updates"].isna().any():
        raise ConfigError(f"{path} cannot be read: it does not hold a row of numbers for each validation")
    return rows.sort_values("updates", ignore_index=True)


def read_sweep(folder: Path) -> dict[str, Any]:
    """What sweep.json says of a sweep; nothing where there is none, or none that can be read."""
    try:
        sweep = json.loads(read_text(folder / SWEEP))
    except (ConfigError, ValueError, RecursionError):
        return {}
    return sweep if isinstance(sweep, dict) else {}


def check_file(path: Path) -> None:
    """Raise ConfigError for what is no file, or none of a sensible size."""
    if not path.is_file():
        raise ConfigError(f"{path} is missing")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} cannot be read: it is larger than {MAX_BYTES // 1_000_000} MB")


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError when there is none to read."""
    check_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {first_line(error)}") from error


def number(value: Any) -> float:
    """A number as result.json holds it, where NaN and infinities are strings; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
