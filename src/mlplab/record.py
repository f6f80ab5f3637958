"""One run folder on disk: config.yaml and result.json, written atomically, read back."""

import json
import math
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mlplab.checks import ConfigError, first_line

CONFIG = "config.yaml"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"


class Record:
    """The `result.json` of a run folder: set values, and they are on disk."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values

    def create(self, config: DictConfig) -> None:
        """Begin the run on disk. Raises ConfigError if the folder holds a run already, or cannot be written."""
        if (self.folder / RESULT).exists():
            raise ConfigError(f"{self.folder} holds a run already; choose another hydra.run.dir or remove that folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))
            self.update()
        except OSError as error:
            raise ConfigError(f"cannot write to the run folder {self.folder}: {error.strerror}") from error

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The record of an existing run. Raises ConfigError that says what is missing or damaged."""
        if not folder.is_dir():
            raise ConfigError(f"no run folder {folder}; runs are in outputs/train and outputs/sweeps")
        if not (folder / RESULT).is_file():
            raise ConfigError(f"{folder} is not a run folder: it has no {RESULT}")
        try:
            values = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder / RESULT} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{folder / RESULT} cannot be read: it does not hold a record")
        return cls(folder, values)

    def config(self) -> DictConfig:
        """The resolved config of the run. Raises ConfigError when it is missing or damaged."""
        try:
            config = OmegaConf.load(self.folder / CONFIG)
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(f"{self.folder / CONFIG} cannot be read: {first_line(error)}") from error
        if not isinstance(config, DictConfig):
            raise ConfigError(f"{self.folder / CONFIG} does not hold a config")
        return config

    def update(self, **values: Any) -> None:
        """Set values and write the file anew; readers see the old content or the new, never a part."""
        self.values |= values
        write_atomically(self.folder / RESULT, json.dumps(json_ready(self.values), indent=2, ensure_ascii=False) + "\n")

    def count_test(self) -> None:
        """Note that the test set was looked at."""
        self.update(test_evaluations=[*self.values.get("test_evaluations", []), now()])

    def checkpoint(self, name: str) -> Path:
        """The path of a checkpoint, "best" or "last". Raises ConfigError that lists those there are."""
        path = self.folder / CHECKPOINTS / f"{name}.ckpt"
        if not path.is_file():
            there = sorted(file.stem for file in path.parent.glob("*.ckpt"))
            raise ConfigError(f"no checkpoint {path}; there are: {', '.join(there) or 'none'}")
        return path


def write_atomically(path: Path, text: str) -> None:
    """Replace the file's content as one step that survives a crash: temporary file beside it, flushed, moved."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def json_ready(value: Any) -> Any:
    """The same value with NaN and infinities as strings, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """The local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
