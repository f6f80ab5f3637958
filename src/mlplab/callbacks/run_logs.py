"""Event files and metrics.csv of a run that continues: nothing twice, nothing missing."""

import csv
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger


def flush_logs(loggers: Iterable[Logger]) -> None:
    """Write what loggers still hold in memory."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
        else:
            logger.save()


def log_sizes(loggers: Iterable[Logger]) -> dict[str, Any]:
    """How much has been logged, by kind of logger: bytes of each event file, rows of metrics.csv."""
    sizes: dict[str, Any] = {}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            sizes["tensorboard"] = {path.name: path.stat().st_size for path in event_files(Path(logger.log_dir))}
        elif isinstance(logger, CSVLogger):
            sizes["csv"] = len(csv_rows(logger))
    return sizes


def cut_logs(loggers: Iterable[Logger], sizes: dict[str, Any]) -> list[str]:
    """Take back what was logged after `log_sizes` gave `sizes`; gives a line for each file that has lost more.

    To be called before anything is logged.
    """
    lost = []
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            kept = sizes.get("tensorboard", {})
            there = {path.name: path for path in event_files(Path(logger.log_dir))}
            for name, path in there.items():
                if name not in kept:
                    path.unlink()
                elif path.stat().st_size > kept[name]:
                    os.truncate(path, kept[name])
                elif missing := kept[name] - path.stat().st_size:
                    lost.append(f"{path} lacks {missing:,} bytes that had been written: its curves have a gap")
            lost += [f"{Path(logger.log_dir) / name} is gone: its curves have a gap" for name in kept.keys() - there]
        elif isinstance(logger, CSVLogger):
            rows = csv_rows(logger)[: sizes.get("csv", 0)]
            logger.experiment.metrics = rows  # making the experiment removes the file; saving writes these again
    return lost


def say_errors_once() -> None:
    """Keep the traceback of TensorBoard's writing thread out of the terminal: the next write raises the same error."""

    def report(arguments: threading.ExceptHookArgs) -> None:
        if not (type(arguments.thread).__name__ == "_AsyncWriterThread" and isinstance(arguments.exc_value, OSError)):
            threading.__excepthook__(arguments)

    threading.excepthook = report


def event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def csv_rows(logger: CSVLogger) -> list[dict[str, str]]:
    path = Path(logger.log_dir) / "metrics.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
