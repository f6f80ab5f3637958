"""Any `train/<class>/*` and `test/<class>/*`, or `<class>/*`, tree of images, decoded once and cached beside it."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from mlplab.data.sources import Source
from mlplab.errors import ConfigError, first_line
from mlplab.files import read_checkpoint, write_checkpoint

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""What an image may be, whatever its extension says; other formats of Pillow run programs, or have no pixels."""
KNOWN = f"images are {', '.join(FORMATS)} files, named {' '.join(EXTENSIONS)}"
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
DECODER = "2"
"""To be raised where other pixels come of the same files: caches of another number are not used."""
MAX_NAMED = 4
"""How many files one message names; it counts the others."""

log = logging.getLogger(__name__)


def image_folder(*, root: str, size: int | Sequence[int] | None, channels: int | None, cache: bool = True) -> Source:
    """Read a tree of images, subfolders included; class names are the folder names in alphabetical order.

    `size` (one number or [height, width]) resizes; without it all images must have one size. `channels` (1, 3 or 4)
    converts; without it all must have the same. `test/` may be missing, and so may `train/`, where the folders of the
    classes are in `root` itself: then the test split is taken from them. Raises ConfigError for a missing or empty
    folder, for images that cannot be decoded (named), and for sizes or channels that differ. Files that are no images
    are left out, and named in the log; hidden ones, whose names begin with a dot, are not there.
    """
    folder = Path(root).expanduser()
    left_out: list[Path] = []
    there = [place.name for place in visible_folders(folder)] if folder.is_dir() else []
    is_split = not there or not {"train", "test"}.isdisjoint(there)
    tree = {"train": _scan(folder / "train" if is_split else folder, left_out)}
    if (folder / "test").is_dir():
        tree["test"] = _scan(folder / "test", left_out, classes=list(tree["train"]))
    left_out += [folder / name for name in there if is_split and name not in tree]
    say_left_out(left_out, folder)
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


def _scan(folder: Path, left_out: list[Path], *, classes: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Class → paths of its images, both in alphabetical order; with `classes`, of these and no others.

    Other files are added to `left_out`. Raises ConfigError for a missing folder, too few or unknown classes, and
    classes without images.
    """
    if not folder.is_dir():
        raise ConfigError(f"data.root: no folder {folder}; expected train/<class>/<images> below data.root")
    found = [place.name for place in visible_folders(folder)]
    if len(found) < 2:
        raise ConfigError(f"data.root: {folder} must hold at least two class folders, got {found!r}")
    if unknown := sorted(set(found) - set(classes or found)):
        raise ConfigError(f"data.root: {folder} has classes that train/ lacks: {', '.join(unknown)}")
    paths, others = find_images(folder)
    images: dict[str, list[Path]] = {name: [] for name in classes or found}
    for path in paths:
        name, *below = path.relative_to(folder).parts
        (images[name] if below else others).append(path)
    left_out += others
    if empty := [name for name, members in images.items() if not members]:
        names = ", ".join(empty[:MAX_NAMED]) + (" …" if len(empty) > MAX_NAMED else "")
        raise ConfigError(f"data.root: no image in {len(empty)} class folder(s) of {folder}: {names}; {KNOWN}")
    return images


def visible_folders(folder: Path) -> list[Path]:
    """The folders in a folder whose names do not begin with a dot, in alphabetical order."""
    return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder and below, known by their extensions, and the other files; in alphabetical order.

    What is hidden, its name begins with a dot, is neither. Links are followed, but not in a circle. Raises OSError for
    a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = Path(place).resolve()
        folders[:] = [name for name in folders if name[0] != "." and not here.is_relative_to((here / name).resolve())]
        files += [Path(place, name) for name in names if name[0] != "."]
    images = [path for path in sorted(files) if path.suffix.lower() in EXTENSIONS]
    return images, sorted({*files} - {*images})


def say_left_out(left_out: Sequence[Path], folder: Path) -> None:
    """Count in the log, and name, what lies beside the images of a folder."""
    if left_out:
        names = ", ".join(path.relative_to(folder).as_posix() for path in left_out[:MAX_NAMED])
        more = " …" if len(left_out) > MAX_NAMED else ""
        log.warning("%s: %d left out, no images by name or place: %s%s; %s", folder, len(left_out), names, more, KNOWN)


def decode(
    paths: Sequence[Path], *, size: Sequence[int] | None = None, channels: int | None = None,
    resized: list[str] | None = None,
) -> Tensor:  # fmt: skip
    """Decode images in parallel, with a progress bar, into uint8 (n, channels, height, width).

    `resized` is given those that had another size. Raises ConfigError that names the images which cannot be decoded,
    or which differ in size or channels.
    """
    faults: list[str] = []

    def read(path: Path) -> Tensor | None:
        try:
            image = read_image(path, channels)
        except Exception as error:  # what is wrong inside a file may raise anything
            reason = KNOWN if isinstance(error, UnidentifiedImageError) else first_line(error)
            faults.append(f"{path}: cannot be decoded ({reason}); replace or remove it")
            return None
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


def read_image(path: Path, channels: int | None) -> Tensor:
    """An image as viewers show it, uint8 (channels, height, width): turned as its EXIF says; of an animation the first.

    Without `channels` there are as many as it needs: 1 grey, 2 grey and opacity, 3 colour, 4 colour and opacity.
    """
    # As a file, since Pillow misreads turned TIFF files of a path: it maps them into memory with the sides swapped.
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as opened:
        if channels == 1:
            opened.draft("L", None)  # a JPEG file holds its greys apart from its colours
        opened.load()
        with contextlib.suppress(Exception):  # of damaged EXIF
            ImageOps.exif_transpose(opened, in_place=True)
        image: Image.Image = opened
        if image.mode in ("I", "F"):
            raise ValueError("it has 32 bits, of which none is white; save it with 8 or 16")
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        image = image.convert(mode + "A" if image.has_transparency_data else mode)
        if channels:
            image = image.convert(MODES[channels])
        return torch.from_numpy(np.array(image)).reshape(*image.size[::-1], -1).permute(2, 0, 1).contiguous()


def _cache_file(folder: Path, paths: Sequence[Path], options: dict) -> tuple[Path, str]:
    """The cache beside the data, one for each choice of options, and what it must say to be that of these files.

    This fingerprint changes with any file's name, size or time of change, and with how images are decoded.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    cache_file = folder.parent / f"{folder.name}.cache-{digest.hexdigest()[:8]}.pt"
    digest.update(DECODER.encode())
    for path in paths:
        status = path.stat() if path.exists() else path.lstat()  # of a link that leads nowhere
        digest.update(os.fsencode(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n"))
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
        log.info("%s: of other images, or of an earlier version; decoding them again", path)
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
