"""Checkpoint files: written in one step that survives a crash, with a digest, and read back as plain data."""

import hashlib
import io
import os
import pickle
import secrets
import struct
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from mlplab.checks import ConfigError, first_line

DIGEST_BYTES = 64
"""A SHA-256 in hexadecimal, kept as the comment that ends a zip file, which is what torch.save writes."""


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write plain data so that readers, also after a crash, see the old file or the new one, never a part.

    Raises OSError, for example when the disk is full; the old file is as it was then.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = memoryview(buffer.getbuffer())[:-2]  # without the length of the comment, 0 so far
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(body)
            file.write(struct.pack("<H", DIGEST_BYTES) + hashlib.sha256(body).hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: plain data only, never code.

    Raises ConfigError when a byte of the file is not what was written.
    """
    try:
        if not is_whole(path):
            raise ConfigError(f"{path} is damaged: its digest does not match its content")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ConfigError:
        raise
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path} is damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(checkpoint, dict):
        raise ConfigError(f"{path} is not a checkpoint")
    return checkpoint


def is_whole(path: Path) -> bool:
    """Whether a file ends in the digest of what comes before it."""
    digest, end = hashlib.sha256(), b""
    with path.open("rb") as file:
        while part := file.read(2**20):
            kept = end + part
            digest.update(kept[: -DIGEST_BYTES - 2])
            end = kept[-DIGEST_BYTES - 2 :]
    return end == struct.pack("<H", DIGEST_BYTES) + digest.hexdigest().encode()


def newest_good(folder: Path) -> Path | None:
    """The checkpoint in a folder that is whole and has seen the most updates, None without one."""
    found: dict[Path, int] = {}
    for path in folder.glob("*.ckpt"):
        try:
            found[path] = int(read_checkpoint(path)["global_step"])
        except (ConfigError, KeyError, TypeError, ValueError):
            continue
    return max(found, key=found.__getitem__, default=None)


def last_checkpoint(folder: Path) -> Path | None:
    """Where the run with this folder of checkpoints continues, None at its very beginning.

    Raises ConfigError that names a good one for a damaged one.
    """
    path = folder / "last.ckpt"
    return whole(path) if path.exists() else None


def whole(path: Path) -> Path:
    """The path of an intact checkpoint. Raises ConfigError that names another one beside it for a damaged one."""
    try:
        read_checkpoint(path)
    except ConfigError as error:
        good = newest_good(path.parent)
        advice = f"continue from the newest good one with resume={good}" if good else "there is no other; start anew"
        raise ConfigError(f"{error}; {advice}") from error
    return path


def load_weights(model: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights into the model; gives the whole checkpoint. Raises ConfigError if they do not fit."""
    checkpoint = read_checkpoint(path)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} does not fit the network of its run folder's config.yaml: was either replaced? "
            f"({str(error).splitlines()[-1].strip()})"
        ) from error
    return checkpoint


def weights_digest(network: torch.nn.Module) -> str:
    """The SHA-256 of a network's state: names, shapes, types and every bit of the values."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class SafeCheckpointIO(CheckpointIO):
    """How Lightning's Trainer writes and reads checkpoints: as the functions above do."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
