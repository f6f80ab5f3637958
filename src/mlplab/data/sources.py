"""Data sets as functions: plain arguments in, a Source in memory out. Add your own here, or in a module of yours."""

import contextlib
import gzip
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlplab.errors import ConfigError, noted

log = logging.getLogger(__name__)

FLOAT32_STEP = 2.0**-23
"""From a number to the next, as a share of it."""

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Source:
    """A data set in memory.

    `features` are uint8 images (n, channels, height, width) or float32 features (n, features); `labels` are int64
    class numbers (n,), indices into `class_names`. `test_features` and `test_labels` are the official test set, where
    there is one; otherwise the test split is taken from the samples. `feature_names` are for axes and tables.
    NumPy arrays and other numeric types are taken as what they mean. Raises ConfigError that says what is wrong, and in
    which row and column.
    """

    features: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()
    test_features: Tensor | None = None
    test_labels: Tensor | None = None

    def __post_init__(self) -> None:
        faults: list[str] = []
        for name in ("class_names", "feature_names"):
            try:
                words = tuple(map(str, getattr(self, name)))
            except TypeError:
                raise ConfigError(f"data: {name} must be texts, got {getattr(self, name)!r}") from None
            object.__setattr__(self, name, words)
            if twice := sorted({word for word in words if words.count(word) > 1}):
                faults.append(f"data: {name} must differ from each other, got {twice[0]!r} more than once")
        if len(self.class_names) < 2:
            faults.append(f"data: class_names must be at least two, got {self.class_names!r}")
        if (self.test_features is None) != (self.test_labels is None):
            faults.append("data: test_features and test_labels must be given together, or neither")
        for start in ("", *(["test_"] if self.test_features is not None and self.test_labels is not None else [])):
            for name, checked in (("features", as_features), ("labels", as_labels)):
                with noted(faults):
                    object.__setattr__(self, start + name, checked(getattr(self, start + name), start + name, self))
        if faults:
            raise ConfigError(*faults)
        self._compare()

    def _compare(self) -> None:
        """Raise ConfigError where the tensors do not go together."""
        faults = []
        for start, features, labels in (
            ("", self.features, self.labels),
            ("test_", self.test_features, self.test_labels),
        ):
            if features is not None and labels is not None and len(features) != len(labels):
                faults.append(f"data: {start}features has {len(features)} rows, but {start}labels has {len(labels)}")
        shape = tuple(self.features.shape[1:])
        if self.test_features is not None and (other := tuple(self.test_features.shape[1:])) != shape:
            faults.append(f"data: a row of test_features must be {shape} as in features, got {other}")
        if self.feature_names and not self.is_images and len(self.feature_names) != shape[0]:
            faults.append(f"data: feature_names must be {shape[0]}, one for each column, got {len(self.feature_names)}")
        if faults:
            raise ConfigError(*faults)

    @property
    def is_images(self) -> bool:
        return self.features.ndim == 4


def as_numbers(values: Any, name: str) -> Tensor:
    """Numbers of any array as a tensor on the CPU. Raises ConfigError for others, and for none at all."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
    else:
        array = np.asarray(values)
        if array.dtype.kind not in "buif":
            raise ConfigError(f"data: {name} must be real numbers, got {array.dtype}; turn words into numbers first")
        wide = {"f": np.float64, "u": np.int64, "i": np.int64}.get(array.dtype.kind, array.dtype)
        tensor = torch.from_numpy(np.array(array, dtype=array.dtype if array.dtype == np.uint8 else wide))
    if tensor.is_complex():
        raise ConfigError(f"data: {name} must be real numbers, got {tensor.dtype}")
    if not tensor.numel():
        raise ConfigError(f"data: {name} must hold at least one number, got the shape {tuple(tensor.shape)}")
    return tensor


def as_features(values: Any, name: str, source: "Source") -> Tensor:
    """float32 (n, features) or uint8 (n, channels, height, width). Raises ConfigError for other shapes and values."""
    tensor = as_numbers(values, name)
    if tensor.ndim not in (2, 4):
        hint = f"; of grey images {name}[:, None], of one feature {name}[:, None]" if tensor.ndim in (1, 3) else ""
        shape = tuple(tensor.shape)
        raise ConfigError(f"data: {name} must be (n, features) or (n, channels, height, width), got {shape}{hint}")
    if tensor.ndim == 4:
        if tensor.shape[1] > 4 >= tensor.shape[3]:
            raise ConfigError(f"data: {name} must be (n, channels, height, width), got {tuple(tensor.shape)}; "
                              "channels come first")  # fmt: skip
        return as_pixels(tensor, f"data: {name}")
    numbers = tensor.float()
    for column, ends in enumerate(zip(*tensor.aminmax(dim=0), strict=True) if tensor.dtype != numbers.dtype else ()):
        name_here = source.feature_names[column] if column < len(source.feature_names) else f"column {column}"
        warn_if_coarse(name_here, *map(float, ends))
    if len(places := (~numbers.isfinite()).nonzero()):
        row, column = places[0].tolist()
        named = f" ({source.feature_names[column]})" if column < len(source.feature_names) else ""
        more = f", and {len(places) - 1:,} more such values" if len(places) > 1 else ""
        raise ConfigError(
            f"data: {name}, row {row}, column {column}{named}, counted from 0: must be a finite number, "
            f"got {tensor[row, column]:g}{more}"
        )
    return numbers


def warn_if_coarse(name: str, low: float, high: float) -> None:
    """Say so where float32, which features are computed in, tells few numbers between two apart: times, long ids."""
    if low < high and high - low < 1000 * max(abs(low), abs(high)) * FLOAT32_STEP:
        log.warning("data: %s, from %.10g to %.10g, is rounded in float32; subtract the smallest", name, low, high)


def as_pixels(values: Tensor, where: str) -> Tensor:
    """The same values as uint8. Raises ConfigError, begun by `where`, unless all are whole numbers from 0 to 255."""
    pixels = values.to(torch.uint8)
    if values.amin() < 0 or values.amax() > 255 or not torch.equal(pixels.to(values.dtype), values):
        raise ConfigError(
            f"{where}: pixels must be whole numbers from 0 (black) to 255 (white), got {values.dtype} from "
            f"{values.amin():g} to {values.amax():g}; scale and round them"
        )
    return pixels


def as_labels(values: Any, name: str, source: "Source") -> Tensor:
    """int64 (n,), each an index into the class names. Raises ConfigError for others, with the row of the first."""
    tensor, num_classes = as_numbers(values, name), len(source.class_names)
    if tensor.ndim != 1:
        shape = tuple(tensor.shape)
        raise ConfigError(f"data: {name} must be class numbers (n,), got {shape}; of one-hot rows take argmax(1)")
    labels = tensor.long()
    if len(rows := ((labels != tensor) | (labels < 0) | (labels >= num_classes)).nonzero()):
        row = int(rows[0])
        more = f"; so are {len(rows) - 1:,} more" if len(rows) > 1 else ""
        raise ConfigError(
            f"data: {name}, row {row}, counted from 0: must be a whole number from 0 to {num_classes - 1}, an index "
            f"into the {num_classes} class_names, got {tensor[row]:g}{more}"
        )
    return labels


def passing(*, num_samples: int, label_noise: float, seed: int) -> Source:
    """ "Will I pass this class?": lectures attended and hours on the final project, both scaled to [0, 1].

    Points are uniform on the unit square; the label is 1 (pass) where x₁ + x₂ > 1. `label_noise` is the fraction of
    labels that are flipped, which gives a network something to overfit.
    """
    generator = np.random.default_rng(seed)
    features = generator.random((num_samples, 2)).astype(np.float32)
    labels = (features.sum(axis=1, dtype=np.float64) > 1).astype(np.int64)  # of the points as they are stored
    names = ("lectures attended", "hours on the final project")
    return _points(features, labels, ("fail", "pass"), names, label_noise=label_noise, generator=generator)


def moons(*, num_samples: int, noise: float, label_noise: float, seed: int) -> Source:
    """Two interleaving half circles (scikit-learn); `noise` is the standard deviation added to the points."""
    from sklearn.datasets import make_moons  # a second of import time that other data sets need not pay

    features, labels = make_moons(n_samples=num_samples, noise=noise, random_state=seed)
    generator = np.random.default_rng(seed)
    return _points(features, labels, ("upper moon", "lower moon"), label_noise=label_noise, generator=generator)


def spirals(*, num_samples: int, num_classes: int, turns: float, noise: float, label_noise: float, seed: int) -> Source:
    """`num_classes` spiral arms of radius 0 to 1 that wind `turns` times around the origin."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_samples) % num_classes
    radius = np.sqrt(generator.random(num_samples))  # even density over the disc
    angle = 2 * np.pi * (turns * radius + labels / num_classes)
    features = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    features += noise * generator.standard_normal(features.shape)
    arms = tuple(f"arm {arm}" for arm in range(num_classes))
    return _points(features, labels, arms, label_noise=label_noise, generator=generator)


def _points(
    features: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...],
    feature_names: tuple[str, ...] = ("x₁", "x₂"), *, label_noise: float, generator: np.random.Generator,
) -> Source:  # fmt: skip
    """Points of which a random fraction `label_noise` are given another label than their own."""
    flipped = generator.random(len(labels)) < label_noise
    others = (labels + generator.integers(1, len(class_names), len(labels))) % len(class_names)
    labels = np.where(flipped, others, labels)
    return Source(torch.from_numpy(features).float(), torch.from_numpy(labels).long(), class_names, feature_names)


def digits() -> Source:
    """1,797 real handwritten digits of 8×8 pixels (scikit-learn's copy of the UCI set), offline."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images * (255 / 16)).round().to(torch.uint8)[:, None]  # levels 0–16 → 0–255
    return Source(images, torch.from_numpy(data.target).long(), DIGITS)


def noise_images(*, num_samples: int, size: int, channels: int, num_classes: int, seed: int) -> Source:
    """Random pixels with random labels: nothing to learn, all to memorise. For benchmarks and for overfitting."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_samples, channels, size, size)
    return Source(
        features=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        labels=torch.arange(num_samples) % num_classes,
        class_names=tuple(f"class {label}" for label in range(num_classes)),
    )


def cifar10(*, root: str) -> Source:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32×32, downloaded to `root` where missing.

    torchvision compares the MD5 of every file with the official one before it is unpickled. Raises ConfigError, with
    the URL and the MD5, when the files are neither there nor to be had.
    """
    from torchvision.datasets import CIFAR10  # imported where needed: half a second

    folder = Path(root).expanduser()
    place = f"{CIFAR10.url} (MD5 {CIFAR10.tgz_md5}) elsewhere and put it at {folder / CIFAR10.filename}"
    with _downloading("cifar10", root, folder, advice=f"download {place}"):
        train, test = (CIFAR10(root, train=is_train, download=True) for is_train in (True, False))
    images, test_images = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
    labels, test_labels = (torch.tensor(part.targets) for part in (train, test))
    return Source(images, labels, tuple(train.classes), test_features=test_images, test_labels=test_labels)


def mnist(*, root: str) -> Source:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 handwritten digits of 28×28, downloaded to `root` where missing.

    Read from the official archives, whose MD5 is compared every time; files unpacked from them have no official one.
    Raises ConfigError, with the URL, when the archives are neither there nor to be had.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    folder, arrays = Path(root).expanduser() / "MNIST" / "raw", []
    place = f"the four *-ubyte.gz files of {MNIST_URL} elsewhere and put them into {folder}"
    with _downloading("mnist", root, folder, advice=f"download {place}"):
        for name, md5 in MNIST.resources:
            download_url(MNIST_URL + name, folder, filename=name, md5=md5)  # only where it is not there, whole
            arrays.append(_idx(gzip.decompress((folder / name).read_bytes())))
    images, labels, test_images, test_labels = arrays
    return Source(
        images[:, None], labels.long(), DIGITS, test_features=test_images[:, None], test_labels=test_labels.long()
    )


@contextlib.contextmanager
def _downloading(name: str, root: str, folder: Path, *, advice: str) -> Iterator[None]:
    """Turn what goes wrong into a ConfigError with advice, and remove the folders made for it where they are empty."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        for place in new:
            with contextlib.suppress(OSError):
                place.rmdir()
        reason = " ".join(str(error).split()) or type(error).__name__
        fault = f"data={name}: not complete in {root}, and the download failed ({reason}); {advice}"
        raise ConfigError(fault) from error


def _idx(content: bytes) -> Tensor:
    """The uint8 array of a file in the idx format: its number of dimensions in byte 3, sizes, values."""
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(int).tolist()
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)
