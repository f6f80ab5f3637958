"""Files that are whole or not there: written in one step, with a digest where that matters, and locked."""

import contextlib
import hashlib
import io
import os
import pickle
import secrets
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from mlplab.errors import ConfigError, first_line

DIGEST_BYTES = 64
"""Of a SHA-256 in hexadecimal."""


@contextlib.contextmanager
def replacing(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """A file to write to, which takes the place of `path` as one step that survives a crash.

    Readers see the old file or the new one, never a part. Raises OSError, for example when the disk is full; the old
    file is as it was then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open(mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        if os.name == "posix":  # so that the name survives a power failure too
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file's content by a text, as one step, with the line ends that it has."""
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write plain data and tensors as one step, with a digest, as `torch.save` does otherwise.

    Raises OSError, for example when the disk is full; the old file is as it was then.
    """
    import torch  # here, since all commands import this file, and most have errors to tell before torch is loaded

    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getbuffer()[:-2]  # without the length of the comment, 0 so far
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(body)
        file.write(ending(body))


def ending(body: memoryview) -> bytes:
    """What a checkpoint ends in: the digest of all before it, as the comment of a zip file, which torch.save writes."""
    return struct.pack("<H", DIGEST_BYTES) + hashlib.sha256(body).hexdigest().encode()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of such a file: plain data only, never code.

    Raises ConfigError when a byte of the file is not what was written.
    """
    import torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not content.endswith(ending(memoryview(content)[: -DIGEST_BYTES - 2])):
        raise ConfigError(f"{path} is damaged: its digest does not match its content")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path} is damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(checkpoint, dict):
        raise ConfigError(f"{path} is not a checkpoint")
    return checkpoint


def lock(path: Path, refusal: str) -> FileLock:
    """Have a file to oneself until the lock is released, or this process ends, however it does.

    Child processes do not inherit the lock. Raises ConfigError that says `refusal` where it is taken.
    """
    taken = FileLock(path, timeout=0)
    try:
        taken.acquire()
    except Timeout as error:
        raise ConfigError(refusal) from error
    return taken


def moved(value: Any, old: str, new: str) -> Any:
    """The same plain data with paths below the folder `old` now below `new`: run folders may be moved."""
    if isinstance(value, dict):
        return {moved(key, old, new): moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [moved(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith((f"{old}/", f"{old}\\"))):
        return new + value[len(old) :]
    return value


def now() -> str:
    """The local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
