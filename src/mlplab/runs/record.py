"""One run folder on disk: config.yaml and result.json, written atomically with digests, and a lock while in use."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.check import config_faults, section_faults
from mlplab.config.targets import nodes
from mlplab.errors import ConfigError, first_line
from mlplab.files import lock, now, write_atomically

CONFIG = "config.yaml"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
EDITED = "it is damaged or was edited since the run wrote it"

MAX_EVENTS, MAX_DEPTH = 100_000, 20
"""Of a config's YAML: a folder from a stranger may hold anything."""
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast


class Record:
    """The `result.json` of a run folder: set values, and they are on disk."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values
        self.on_disk = True  # of several processes of one run, the first one alone writes
        self._lock: FileLock | None = None

    def create(self, config: str) -> None:
        """Begin the run on disk, with its config as YAML.

        Raises ConfigError if the folder holds a run already, or cannot be written.
        """
        try:
            if (self.folder / RESULT).exists():
                advice = f"continue it with {shlex.quote(f'resume={self.folder}')}, or choose another hydra.run.dir"
                raise ConfigError(f"{self.folder} holds a run already; {advice}")
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock()
            self.write_config(config)
        except OSError as error:
            self.release()
            raise ConfigError(f"cannot write to the run folder {self.folder}: {error.strerror}") from error

    def write_config(self, config: str) -> None:
        """Write the config (YAML), and its digest into the record."""
        write_atomically(self.folder / CONFIG, config)
        self.update(config_digest=hashlib.sha256(config.encode()).hexdigest())

    def lock(self) -> None:
        """Keep others from writing to this run; ends with the process. Raises ConfigError if another process has it."""
        refusal = f"{self.folder} is being written by another process; wait for it, or stop it first"
        self._lock = self._lock or lock(self.folder / LOCK, refusal)

    def release(self) -> None:
        """Let other processes continue this run."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The record of an existing run. Raises ConfigError that says what is missing or damaged."""
        if not folder.is_dir():
            raise ConfigError(f"no run folder {folder}; runs are in outputs/train and outputs/sweeps")
        if not (folder / RESULT).is_file():
            raise ConfigError(f"{folder} is not a run folder: it has no {RESULT}")
        try:
            content = (folder / RESULT).read_text(encoding="utf-8")
            values = json.loads(content)
            if not isinstance(values, dict):
                raise ValueError("it does not hold a record")
            has_digest = values.pop("digest", None) is not None or "config_digest" in values  # old records have neither
            if has_digest and content != with_digest(values):
                raise ValueError(EDITED)
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{folder / RESULT} cannot be read: {error}") from error
        return cls(folder, values)

    def plain_config(self) -> dict[str, Any]:
        """The resolved config of the run as plain data. Raises ConfigError when it is missing or damaged."""
        path = self.folder / CONFIG
        try:
            if not path.is_file():
                raise ValueError("it is missing, or no file")
            content = path.read_bytes()
            if self.values.get("config_digest") not in (None, hashlib.sha256(content).hexdigest()):
                raise ValueError(EDITED)
            if b"${" in content or not is_simple(content):
                raise ValueError("it refers to other values, or is too large or too deep, unlike what a run writes")
            config = yaml.load(content, LOADER)
            if not isinstance(config, dict):
                raise ValueError("it does not hold a config")
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {first_line(error)}") from error
        return config

    def config(self) -> DictConfig:
        """The same as Hydra gives it."""
        try:
            return OmegaConf.create(self.plain_config())
        except OmegaConfBaseException as error:
            raise ConfigError(f"{self.folder / CONFIG} cannot be read: {first_line(error)}") from error

    def check(self, config: DictConfig) -> None:
        """Raise ConfigError that lists all that is wrong with the config of this run."""
        if faults := section_faults(nodes(OmegaConf.to_container(config))) or config_faults(config):
            raise ConfigError(*(f"{self.folder / CONFIG}: {fault}" for fault in faults))

    def update(self, **values: Any) -> None:
        """Set values and write the file anew; readers see the old content or the new, never a part."""
        self.values |= values
        if self.on_disk:
            # JSON has no numbers for NaN and infinities, which become texts: "nan", "inf".
            values = json.loads(json.dumps(self.values), parse_constant=lambda name: str(float(name)))
            write_atomically(self.folder / RESULT, with_digest(values))

    def count_test(self) -> None:
        """Note that the test set was looked at."""
        self.update(test_evaluations=[*self.values.get("test_evaluations", []), now()])

    def checkpoint(self, name: str) -> Path:
        """The path of a checkpoint, "best" or "last". Raises ConfigError that lists those there are."""
        path = self.folder / CHECKPOINTS / f"{name}.ckpt"
        if not path.is_file():
            there = sorted(file.stem for file in path.parent.glob("*.ckpt"))
            others = " or ".join(f"checkpoint={name}" for name in there)
            raise ConfigError(f"no checkpoint {path}; there is {others or 'none'}")
        return path


def is_in_use(folder: Path) -> bool:
    """Whether a living process writes to the run folder; a status "running" without one means that it was killed."""
    try:
        if (folder / LOCK).exists():
            lock(folder / LOCK, "in use").release()
    except (ConfigError, OSError) as error:
        return isinstance(error, ConfigError)
    return False


def is_simple(content: bytes) -> bool:
    """Whether YAML has no references, which could multiply without end, few levels, and no more than a run writes."""
    depth = 0
    for count, event in enumerate(yaml.parse(content, LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH or count > MAX_EVENTS:
            return False
    return True


def with_digest(values: dict[str, Any]) -> str:
    """A record as it stands in its file, with the SHA-256 of its content; any other text for it has been edited."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return json.dumps(values | {"digest": digest}, indent=2, ensure_ascii=False) + "\n"
