"""Any `train/<class>/*` and `test/<class>/*` tree of images, decoded once and cached as one tensor file beside it."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms.v2.functional import resize

from mlplab.data.types import Source
from mlplab.errors import ConfigError, first_line
from mlplab.files import read_checkpoint, write_checkpoint

EXTENSIONS = (".png", ".jpg", ".jpeg")
READ_MODES = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB, 4: ImageReadMode.RGB_ALPHA, None: ImageReadMode.UNCHANGED}
MAX_NAMED = 4
"""How many faulty files one error names; it counts the others."""

log = logging.getLogger(__name__)


def image_folder(*, root: str, size: int | Sequence[int] | None, channels: int | None, cache: bool = True) -> Source:
    """Read a tree of PNG and JPEG images; class names are the folder names in alphabetical order.

    `size` (one number or [height, width]) resizes; without it all images must have one size. `channels` (1, 3 or 4)
    converts; without it all must have the same. `test/` may be missing. Raises ConfigError for a missing or empty
    folder, for images that cannot be decoded (named), and for sizes or channels that differ.
    """
    folder = Path(root).expanduser()
    classes = _class_names(folder / "train")
    files = {"train": _files(folder / "train", classes)}
    if (folder / "test").is_dir():
        if unknown := set(_class_names(folder / "test")) - set(classes):
            raise ConfigError(
                f"data.root: {folder / 'test'} has classes that train/ lacks: {', '.join(sorted(unknown))}"
            )
        files["test"] = _files(folder / "test", classes)
    height_width = [size, size] if isinstance(size, int) else list(size) if size else None
    options = {"size": height_width, "channels": channels}

    tensors = _cached(folder, files, options) if cache else None
    if tensors is None:
        paths = [path for split in files.values() for path, _ in split]
        images = decode(paths, size=height_width, channels=channels)
        labels = torch.tensor([label for split in files.values() for _, label in split])
        num_train = len(files["train"])
        tensors = {"train_images": images[:num_train].clone(), "train_labels": labels[:num_train].clone()}
        if "test" in files:
            tensors |= {"test_images": images[num_train:].clone(), "test_labels": labels[num_train:].clone()}
        if cache:
            _write_cache(folder, files, options, tensors)
    return Source(
        features=tensors["train_images"],
        labels=tensors["train_labels"],
        class_names=tuple(classes),
        test_features=tensors.get("test_images"),
        test_labels=tensors.get("test_labels"),
    )


def decode(paths: Sequence[Path], *, size: Sequence[int] | None = None, channels: int | None = None) -> Tensor:
    """Decode images in parallel, with a progress bar, into uint8 (n, channels, height, width).

    Raises ConfigError that names the images which cannot be decoded, or which differ in size or channels.
    """
    faults: list[str] = []

    def read(path: Path) -> Tensor | None:
        try:
            image = decode_image(read_file(str(path)), mode=READ_MODES[channels])
        except (RuntimeError, OSError) as error:
            faults.append(f"{path}: cannot be decoded ({first_line(error)}); replace or remove it")
            return None
        if image.dtype == torch.uint16:
            image = (image.to(torch.int32) >> 8).to(torch.uint8)
        return image if size is None else resize(image, list(size), antialias=True)

    images: Tensor | None = None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(read, paths)
        for index, image in enumerate(track(decoded, "Decoding images", total=len(paths), disable=len(paths) < 1000)):
            if image is None:
                continue
            if images is None:
                first, images = paths[index], torch.empty((len(paths), *image.shape), dtype=torch.uint8)
            if image.shape != images.shape[1:]:
                faults.append(
                    f"{paths[index]}: (channels, height, width) = {tuple(image.shape)}, but {first} has "
                    f"{tuple(images.shape[1:])}; set data.size and data.channels to convert"
                )
                continue
            images[index] = image
    if faults:
        more = [f"… and {len(faults) - MAX_NAMED} more such images"] if len(faults) > MAX_NAMED else []
        raise ConfigError(*faults[:MAX_NAMED], *more)
    if images is None:
        raise ConfigError("no image to decode")
    return images


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ConfigError(f"data.root: no folder {folder}; expected train/<class>/<images> below data.root")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise ConfigError(f"data.root: {folder} must hold at least two class folders, got {classes!r}")
    return classes


def _files(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Paths and labels of all images, in a fixed order. Raises ConfigError that names class folders without images."""
    files: list[tuple[Path, int]] = []
    empty = []
    for label, name in enumerate(classes):
        members = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in EXTENSIONS)
        files += [(path, label) for path in members]
        if not members:
            empty.append(name)
    if empty:
        names = ", ".join(empty[:MAX_NAMED]) + (" …" if len(empty) > MAX_NAMED else "")
        raise ConfigError(f"data.root: no PNG or JPEG image in {len(empty)} class folder(s) of {folder}: {names}")
    return files


Files = dict[str, list[tuple[Path, int]]]


def _fingerprint(folder: Path, files: Files, options: dict) -> str:
    """Changes with any file's name, size or time of change, and with the options."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for split in files.values():
        for path, _ in split:
            status = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _cache_file(folder: Path, options: dict) -> Path:
    """Beside the data, one file for each choice of options."""
    choice = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    return folder.parent / f"{folder.name}.cache-{choice}.pt"


def _cached(folder: Path, files: Files, options: dict) -> dict[str, Tensor] | None:
    """The tensors of an earlier call, or None when there are none, or the tree or a bit of the file has changed."""
    path = _cache_file(folder, options)
    if not path.exists():
        return None
    try:
        content = read_checkpoint(path)
        if content["fingerprint"] != _fingerprint(folder, files, options):
            log.info("%s: the images have changed, decoding them again", path)
        elif _fits(content["tensors"], files):
            return content["tensors"]
        else:
            log.warning("%s: not the cache of these images, decoding them again", path)
    except Exception as error:  # a damaged cache costs time, never the run
        reason = first_line(error).removeprefix(f"{path} ")
        log.warning("%s: unreadable cache (%s), decoding the images again", path, reason)
    return None


def _fits(tensors: dict[str, Tensor], files: Files) -> bool:
    """Whether a cache holds uint8 images (n, channels, height, width) and class numbers for all the files."""
    shapes = set()
    for split, members in files.items():
        images, labels = tensors[f"{split}_images"], tensors[f"{split}_labels"]
        if images.ndim != 4 or len(images) != len(members) or images.dtype != torch.uint8:
            return False
        if labels.tolist() != [label for _, label in members] or labels.dtype != torch.int64:
            return False
        shapes.add(images.shape[1:])
    return len(shapes) == 1


def _write_cache(folder: Path, files: Files, options: dict, tensors: dict[str, Tensor]) -> None:
    path = _cache_file(folder, options)
    try:
        write_checkpoint({"fingerprint": _fingerprint(folder, files, options), "tensors": tensors}, path)
        log.info("decoded images cached in %s", path)
    except (OSError, RuntimeError, MemoryError) as error:
        log.warning("cannot write the cache %s (%s); the images will be decoded at every start", path, error)
