"""Checkpoint files: which to continue from, and what is loaded from them."""

import hashlib
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from mlplab.callbacks.history import PAUSE
from mlplab.callbacks.last_checkpoint import LAST
from mlplab.data.module import DataModule
from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint, write_checkpoint
from mlplab.runs.record import Record


def newest_good(folder: Path) -> Path | None:
    """The checkpoint in a folder that is whole and has seen the most updates, None without one."""
    found: dict[Path, int] = {}
    for path in folder.glob("*.ckpt"):
        try:
            found[path] = int(read_checkpoint(path)["global_step"])
        except (ConfigError, KeyError, TypeError, ValueError):
            continue
    return max(found, key=found.__getitem__, default=None)


def check_whole(path: Path) -> None:
    """Raise ConfigError that names another checkpoint beside it for a damaged one."""
    try:
        read_checkpoint(path)
    except ConfigError as error:
        good = newest_good(path.parent)
        offer = f"continue from the newest good one with {shlex.quote(f'resume={good}')}"
        advice = offer if good else "there is no other; start anew"
        raise ConfigError(f"{error}; {advice}") from error


def check_data(data: DataModule, record: Record, checkpoint: Path) -> None:
    """Raise ConfigError where the data are not those that the run was trained on."""
    samples = {split: len(dataset) for split, dataset in data.datasets.items()}
    before = read_checkpoint(checkpoint)["DataModule"] | {"number of samples": record.values.get("samples")}
    now = data.state_dict() | {"number of samples": samples}
    if changed := [name.replace("_", " ") for name, value in now.items() if not is_alike(before.get(name), value)]:
        raise ConfigError(
            f"the data are not those that {record.folder} was trained on: other {', '.join(changed)}; "
            "bring them back, or start a new run"
        )


def is_alike(before: Any, now: Any) -> bool:
    """Whether two plain values are the same, numbers up to what another processor rounds otherwise."""
    if isinstance(now, list) and now and isinstance(now[0], float):
        return len(before or ()) == len(now) and np.allclose(before, now, rtol=1e-5, atol=1e-7)
    return before == now


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint's weights into the model. Raises ConfigError if they do not fit."""
    checkpoint = read_checkpoint(path)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} does not fit the network of its run folder's config.yaml: was either replaced? "
            f"({str(error).splitlines()[-1].strip()})"
        ) from error


def weights_digest(network: torch.nn.Module) -> str:
    """The SHA-256 of a network's state: names, shapes, types and every bit of the values."""
    digest = hashlib.sha256()
    state = {name: values for name, values in network.state_dict().items() if isinstance(values, torch.Tensor)}
    for name, values in state.items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class SafeCheckpointIO(CheckpointIO):
    """How Lightning's Trainer writes and reads checkpoints: whole or not at all, and never code.

    A checkpoint that replaces one of the last PAUSE seconds, as best.ckpt does where epochs are short, waits in memory
    until the next that is later, until last.ckpt is written, whose state knows of it, or until the end.
    """

    def __init__(self) -> None:
        self._waiting: dict[Path, dict[str, Any]] = {}
        self._written_at: dict[Path, float] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        if path.name == LAST:
            self.teardown()
        elif time.monotonic() - self._written_at.get(path, -PAUSE) < PAUSE:
            self._waiting[path] = copied(checkpoint)
            return
        self._waiting.pop(path, None)
        write_checkpoint(checkpoint, path)
        self._written_at[path] = time.monotonic()

    def teardown(self) -> None:
        """Write what waits."""
        while self._waiting:
            path, checkpoint = next(iter(self._waiting.items()))
            write_checkpoint(checkpoint, path)
            del self._waiting[path]

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        self._waiting.pop(Path(path), None)
        Path(path).unlink(missing_ok=True)


def copied(content: Any) -> Any:
    """Plain data with copies of all tensors, which `copy.deepcopy` takes four times as long to make."""
    if isinstance(content, torch.Tensor):
        return content.clone()
    if isinstance(content, dict):
        return {name: copied(value) for name, value in content.items()}
    return type(content)(map(copied, content)) if isinstance(content, list | tuple) else content
