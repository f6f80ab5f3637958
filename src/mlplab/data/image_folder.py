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

from mlplab.data.sources import Source
from mlplab.errors import ConfigError, first_line
from mlplab.files import read_checkpoint, write_checkpoint

EXTENSIONS = (".png", ".jpg", ".jpeg")
READ_MODES: dict[int | None, ImageReadMode] = {
    1: ImageReadMode.GRAY, 3: ImageReadMode.RGB, 4: ImageReadMode.RGB_ALPHA,
}  # fmt: skip
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
    tree = {"train": _scan(folder / "train")}
    if (folder / "test").is_dir():
        tree["test"] = _scan(folder / "test", classes=list(tree["train"]))
    paths = [path for classes in tree.values() for members in classes.values() for path in members]
    height_width = [size, size] if isinstance(size, int) else list(size) if size else None
    cache_file, fingerprint = _cache_file(folder, paths, {"size": height_width, "channels": channels})
    images = _read_cache(cache_file, fingerprint, len(paths)) if cache else None
    if images is None:
        images = decode(paths, size=height_width, channels=channels)
        if cache:
            _write_cache(cache_file, fingerprint, images)
    labels = [
        torch.tensor([label for label, members in enumerate(classes.values()) for _ in members])
        for classes in tree.values()
    ]
    parts = images.split([len(members) for members in labels])
    test = {"test_features": parts[1], "test_labels": labels[1]} if "test" in tree else {}
    return Source(parts[0], labels[0], tuple(tree["train"]), **test)


def _scan(folder: Path, *, classes: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Class → paths of its images, both in alphabetical order; with `classes`, of these and no others.

    Raises ConfigError for a missing folder, too few or unknown classes, and classes without images.
    """
    if not folder.is_dir():
        raise ConfigError(f"data.root: no folder {folder}; expected train/<class>/<images> below data.root")
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(found) < 2:
        raise ConfigError(f"data.root: {folder} must hold at least two class folders, got {found!r}")
    if unknown := sorted(set(found) - set(classes or found)):
        raise ConfigError(f"data.root: {folder} has classes that train/ lacks: {', '.join(unknown)}")
    images = {
        name: sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in EXTENSIONS)
        for name in classes or found
    }
    if empty := [name for name, paths in images.items() if not paths]:
        names = ", ".join(empty[:MAX_NAMED]) + (" …" if len(empty) > MAX_NAMED else "")
        raise ConfigError(f"data.root: no PNG or JPEG image in {len(empty)} class folder(s) of {folder}: {names}")
    return images


def decode(
    paths: Sequence[Path], *, size: Sequence[int] | None = None, channels: int | None = None,
    resized: list[str] | None = None,
) -> Tensor:  # fmt: skip
    """Decode images in parallel, with a progress bar, into uint8 (n, channels, height, width).

    `resized` is given those that had another size. Raises ConfigError that names the images which cannot be decoded,
    or which differ in size or channels.
    """
    faults: list[str] = []
    mode = READ_MODES.get(channels, ImageReadMode.UNCHANGED)

    def read(path: Path) -> Tensor | None:
        try:
            image = decode_image(read_file(str(path)), mode=mode)
        except (RuntimeError, OSError) as error:
            faults.append(f"{path}: cannot be decoded ({first_line(error)}); replace or remove it")
            return None
        if image.dtype == torch.uint16:
            image = (image.to(torch.int32) >> 8).to(torch.uint8)
        if size is None or image.shape[1:] == tuple(size):
            return image
        if resized is not None:
            resized.append(f"{path} ({image.shape[2]}×{image.shape[1]})")
        return resize(image, list(size), antialias=True)

    images = torch.empty(0, dtype=torch.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = track(pool.map(read, paths), "Decoding images", total=len(paths), disable=len(paths) < 1000)
        for index, image in enumerate(decoded):
            if image is None:
                continue
            if not len(images):
                first, images = paths[index], image.new_empty((len(paths), *image.shape))
            if image.shape == images.shape[1:]:
                images[index] = image
            else:
                faults.append(
                    f"{paths[index]}: (channels, height, width) = {tuple(image.shape)}, but {first} has "
                    f"{tuple(images.shape[1:])}; set data.size and data.channels to convert"
                )
    if len(faults) > MAX_NAMED:
        faults = [*faults[:MAX_NAMED], f"… and {len(faults) - MAX_NAMED} more such images"]
    if faults:
        raise ConfigError(*faults)
    return images


def _cache_file(folder: Path, paths: Sequence[Path], options: dict) -> tuple[Path, str]:
    """The cache beside the data, one for each choice of options, and what it must say to be that of these files.

    This fingerprint changes with any file's name, size or time of change.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    cache_file = folder.parent / f"{folder.name}.cache-{digest.hexdigest()[:8]}.pt"
    for path in paths:
        status = path.stat() if path.exists() else path.lstat()  # of a link that leads nowhere
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return cache_file, digest.hexdigest()


def _read_cache(path: Path, fingerprint: str, num_images: int) -> Tensor | None:
    """The images of an earlier call, or None when there are none, or the tree or a bit of the file has changed."""
    if not path.exists():
        return None
    try:
        content = read_checkpoint(path)
        images = content["images"]
        same = content["fingerprint"] == fingerprint
        if same and images.dtype == torch.uint8 and images.ndim == 4 and len(images) == num_images:
            return images
        log.info("%s: the images have changed, decoding them again", path)
    except Exception as error:  # a damaged cache costs time, never the run
        reason = first_line(error).removeprefix(f"{path} ")
        log.warning("%s: unreadable cache (%s), decoding the images again", path, reason)
    return None


def _write_cache(path: Path, fingerprint: str, images: Tensor) -> None:
    try:
        write_checkpoint({"fingerprint": fingerprint, "images": images}, path)
        log.info("decoded images cached in %s", path)
    except (OSError, RuntimeError, MemoryError) as error:
        log.warning("cannot write the cache %s (%s); the images will be decoded at every start", path, error)
