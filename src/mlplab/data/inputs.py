"""Samples without labels, read from files into the shape that a trained network takes."""

import logging
import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mlplab.data.image_folder import EXTENSIONS, KNOWN, decode, find_images, say_left_out
from mlplab.data.sources import as_pixels
from mlplab.data.table import MISSING, features_of, read_cells, read_table
from mlplab.errors import ConfigError, first_line

log = logging.getLogger(__name__)


class Inputs(NamedTuple):
    """A name for each sample, and features: uint8 (n, channels, height, width) or float32 (n, features)."""

    names: list[str]
    features: Tensor


def read_inputs(path: Path, *, feature_shape: Sequence[int], feature_names: Sequence[str] = ()) -> Inputs:
    """Read an image, a folder of images (searched recursively), a CSV or a .npy file.

    `feature_shape` is that of one sample of the training data: (features,) or (channels, height, width). Images are
    named by their path within the folder, rows by their number, counted from 1. Raises ConfigError that says what is
    wrong, where, and what is expected.
    """
    check_kind(path)
    if path.is_dir() or path.suffix.lower() in EXTENSIONS:
        return read_images(path, feature_shape)
    if path.suffix.lower() == ".csv":
        if any("=" in name for name in feature_names):  # texts of a table
            features = features_of(read_table(path, key="input"), feature_names, key=f"input={path}")
        else:
            features = read_csv(path, num_features=math.prod(feature_shape), feature_names=feature_names)
    else:
        features = read_npy(path, feature_shape)
    if len(feature_shape) == 3:
        features = as_pixels(features, f"input={path}").reshape(-1, *feature_shape)
        if features.amax() <= 1:
            log.warning(
                "%s: no pixel is above 1 on the scale from 0 (black) to 255 (white); was it scaled to 0–1?", path
            )
    return Inputs([str(row) for row in range(1, len(features) + 1)], features)


def check_kind(path: Path) -> None:
    """Raise ConfigError for what no network could take."""
    if not path.exists():
        raise ConfigError(f"input={path}: no such file or folder")
    if not path.is_dir() and path.suffix.lower() not in (*EXTENSIONS, ".csv", ".npy"):
        raise ConfigError(f"input={path} must be a folder of images, an image, a .csv or a .npy file; {KNOWN}")


def read_images(path: Path, feature_shape: Sequence[int]) -> Inputs:
    """Decode one image, or all below a folder, to uint8 (n, channels, height, width); other sizes are resized."""
    if len(feature_shape) != 3:
        raise ConfigError(f"input={path}: this run was trained on features, not on images; give a .csv or .npy file")
    channels, height, width = feature_shape
    root = path if path.is_dir() else path.parent
    files, left_out = find_images(path) if path.is_dir() else ([path], [])
    if not files:
        raise ConfigError(f"input={path}: no image in this folder or below; {KNOWN}")
    say_left_out(left_out, root)
    resized: list[str] = []
    images = decode(files, size=(height, width), channels=channels, resized=resized)
    if images.shape[1] != channels:
        raise ConfigError(f"input={path}: images must have {channels} channels as in training, got {images.shape[1]}")
    if resized:
        counts = f"{len(resized)} of {len(files)} images"
        log.warning("%s resized to the training size %d×%d, such as %s", counts, width, height, min(resized))
    return Inputs([file.relative_to(root).as_posix() for file in files], images)


def samples_as_features(values: Any, *, feature_shape: Sequence[int], feature_names: Sequence[str]) -> Tensor:
    """Samples in memory as a network takes them: a frame by the names of its columns, an array or tensor as it is.

    Gives float32 (n, features) or uint8 (n, channels, height, width). Raises ConfigError for other shapes and values.
    """
    if isinstance(values, pd.DataFrame) and len(feature_shape) == 1:
        tensor = features_of(values.astype(str), feature_names or list(values), key="features")
    else:
        try:
            tensor = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"features must be an array, tensor or frame of numbers: {first_line(error)}") from error
    if tuple(tensor.shape[1:]) != tuple(feature_shape):
        expected = ", ".join(map(str, ("n", *feature_shape)))
        raise ConfigError(f"features must have the shape ({expected}), got {tuple(tensor.shape)}")
    if not tensor.float().isfinite().all():
        raise ConfigError("features must be finite numbers")
    return as_pixels(tensor, "features") if len(feature_shape) == 3 else tensor.float()


def read_npy(path: Path, feature_shape: Sequence[int]) -> Tensor:
    """The array of a .npy file as float32, images with their channels first; never runs code in a file."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a forged header may make the parser of Python's tokens raise anything
        reason = f"cannot be read as .npy ({first_line(error)}); save plain numbers with numpy.save"
        raise ConfigError(f"input={path} {reason}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise ConfigError(f"input={path} must hold one array of real numbers, got {getattr(array, 'dtype', 'several')}")
    layouts: list[tuple[int, ...]] = [(math.prod(feature_shape),)]
    if len(feature_shape) == 3:
        channels, height, width = feature_shape
        layouts += [(channels, height, width), (height, width, channels), *([(height, width)] if channels == 1 else [])]
    if array.shape[1:] not in layouts or len(array) == 0:
        expected = " or ".join(f"(n, {', '.join(map(str, layout))})" for layout in dict.fromkeys(layouts))
        raise ConfigError(f"input={path} must have the shape {expected} with n ≥ 1, got {array.shape}")
    if array.ndim == 4 and array.shape[1:] != tuple(feature_shape):
        array = array.transpose(0, 3, 1, 2)
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    if len(places := np.argwhere(~np.isfinite(numbers))):
        place = places[0].tolist()
        raise ConfigError(f"input={path}: values must be finite numbers, got {array[tuple(place)]} at {place}")
    return torch.from_numpy(numbers)


def read_csv(path: Path, *, num_features: int, feature_names: Sequence[str]) -> Tensor:
    """The numbers of a CSV file, float32 (n, num_features); no label column.

    A first line without any number is a header, unless it says of each cell that it is missing. Where it holds the
    feature names, whatever their case, columns may come in any order, and others are left out; a header of other names
    is named in the log, and the columns are taken in the order of the file. Raises ConfigError for what is none of
    these.
    """
    cells = read_cells(path, key="input")
    header = list(cells.iloc[0]) if len(cells) else []
    order = columns_of(path, header, feature_names)
    names = f" ({', '.join(feature_names)})" if feature_names else ""
    if order is None and cells.shape[1] != num_features:
        expected = f"{num_features} columns{names}, separated by commas and without labels"
        index = "; the first, without a name, is an index: save without it" if header[:1] == [""] else ""
        raise ConfigError(f"input={path}: expected {expected}, got {cells.shape[1]}{index}")
    if order is not None:
        cells = cells.iloc[1:, order].set_axis(list(feature_names), axis=1)
    elif header == [str(column) for column in range(num_features)]:
        raise ConfigError(
            f"input={path}, line 1: {','.join(header)} may be a sample or the column numbers that pandas writes; "
            "write the names of the features above it, or save with header=False"
        )
    elif is_header(header):
        log.warning("%s: line 1 (%s) is a header of other names than in training%s; columns are taken in the order of "
                    "the file", path, ", ".join(header), names)  # fmt: skip
        cells = cells[1:]
    if not len(cells):
        raise ConfigError(f"input={path} has no row of numbers; expected {num_features} columns")
    return features_of(cells, list(cells), key=f"input={path}")


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first line has no number, and says of some cell more than that its value is missing."""
    has_numbers = pd.to_numeric(pd.Series(cells), errors="coerce").notna().any()
    return not has_numbers and not {cell.lower() for cell in cells} <= MISSING


def columns_of(path: Path, header: Sequence[str], feature_names: Sequence[str]) -> list[int] | None:
    """Where a header has the feature names, in their order; None where it has none of them.

    Names are compared without case, and with spaces, underscores and hyphens alike. Columns that are no features are
    named in the log. Raises ConfigError where a feature is missing or there twice.
    """

    def simple(name: str) -> str:
        return re.sub(r"[\s_#-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()

    wanted, found = ([simple(name) for name in names] for names in (feature_names, header))
    if len({*wanted}) < len(wanted):  # names that differ in their case only
        wanted, found = list(feature_names), [name.strip() for name in header]
    if not {*wanted} & {*found}:
        return None
    missing = [name for name, key in zip(feature_names, wanted, strict=True) if key not in found]
    twice = [name for name, key in zip(feature_names, wanted, strict=True) if found.count(key) > 1]
    if missing or twice:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(twice)} more than once"
        raise ConfigError(f"input={path}: the header ({', '.join(header)}) {what}; it must name each feature once")
    if others := [name or "one without a name" for name, key in zip(header, found, strict=True) if key not in wanted]:
        log.warning("%s: columns that are no features are left out: %s", path, ", ".join(others))
    return [found.index(key) for key in wanted]
