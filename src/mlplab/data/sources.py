"""Data sets as functions: plain arguments in, a Source in memory out. Add your own here, or in a module of yours."""

import gzip
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mlplab.data.types import Source
from mlplab.errors import ConfigError

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def passing(*, num_samples: int, label_noise: float, seed: int) -> Source:
    """ "Will I pass this class?": lectures attended and hours on the final project, both scaled to [0, 1].

    Points are uniform on the unit square; the label is 1 (pass) where x₁ + x₂ > 1. `label_noise` is the fraction of
    labels that are flipped, which gives a network something to overfit.
    """
    generator = np.random.default_rng(seed)
    features = generator.random((num_samples, 2)).astype(np.float32)
    labels = (features.sum(axis=1, dtype=np.float64) > 1).astype(np.int64)  # of the points as they are stored
    labels = _flip_labels(labels, label_noise, num_classes=2, generator=generator)
    return _source(features, labels, ("fail", "pass"), ("lectures attended", "hours on the final project"))


def moons(*, num_samples: int, noise: float, label_noise: float, seed: int) -> Source:
    """Two interleaving half circles (scikit-learn); `noise` is the standard deviation added to the points."""
    from sklearn.datasets import make_moons  # a second of import time that other data sets need not pay

    features, labels = make_moons(n_samples=num_samples, noise=noise, random_state=seed)
    labels = _flip_labels(labels, label_noise, num_classes=2, generator=np.random.default_rng(seed))
    return _source(features, labels, ("upper moon", "lower moon"), ("x₁", "x₂"))


def spirals(*, num_samples: int, num_classes: int, turns: float, noise: float, label_noise: float, seed: int) -> Source:
    """`num_classes` spiral arms of radius 0 to 1 that wind `turns` times around the origin."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_samples) % num_classes
    radius = np.sqrt(generator.random(num_samples))  # even density over the disc
    angle = 2 * np.pi * (turns * radius + labels / num_classes)
    features = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    features += noise * generator.standard_normal(features.shape)
    labels = _flip_labels(labels, label_noise, num_classes=num_classes, generator=generator)
    return _source(features, labels, tuple(f"arm {arm}" for arm in range(num_classes)), ("x₁", "x₂"))


def digits() -> Source:
    """1,797 real handwritten digits of 8×8 pixels (scikit-learn's copy of the UCI set), offline."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images * (255 / 16)).round().to(torch.uint8)[:, None]  # levels 0–16 → 0–255
    return Source(images, torch.from_numpy(data.target).long(), tuple(str(digit) for digit in range(10)))


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

    place = f"download {CIFAR10_URL} (MD5 {CIFAR10_MD5}) elsewhere and put it at {Path(root) / CIFAR10.filename}"
    try:
        train, test = (CIFAR10(root, train=is_train, download=True) for is_train in (True, False))
    except (URLError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"data=cifar10: not complete in {root}, and the download failed ({_one_line(error)}); {place}"
        ) from error
    return Source(
        features=torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor(train.targets),
        class_names=tuple(train.classes),
        test_features=torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
        test_labels=torch.tensor(test.targets),
    )


def mnist(*, root: str) -> Source:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 handwritten digits of 28×28, downloaded to `root` where missing.

    Read from the official archives, whose MD5 is compared every time; files unpacked from them have no official one.
    Raises ConfigError, with the URL, when the archives are neither there nor to be had.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    folder = Path(root) / "MNIST" / "raw"
    try:
        arrays = []
        for name, md5 in MNIST.resources:
            download_url(MNIST_URL + name, folder, filename=name, md5=md5)  # only where it is not there, whole
            arrays.append(_idx(gzip.decompress((folder / name).read_bytes())))
    except (URLError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise ConfigError(
            f"data=mnist: not complete in {root}, and the download failed ({_one_line(error)}); download the four "
            f"*-ubyte.gz files of {MNIST_URL} elsewhere and put them into {folder}"
        ) from error
    images, labels, test_images, test_labels = arrays
    return Source(
        features=images[:, None],
        labels=labels.long(),
        class_names=tuple(str(digit) for digit in range(10)),
        test_features=test_images[:, None],
        test_labels=test_labels.long(),
    )


def _idx(content: bytes) -> Tensor:
    """The uint8 array of a file in the idx format: its number of dimensions in byte 3, sizes, values."""
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(int).tolist()
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _flip_labels(
    labels: np.ndarray, fraction: float, *, num_classes: int, generator: np.random.Generator
) -> np.ndarray:
    """Give a random `fraction` of the samples another label than their own."""
    flipped = generator.random(len(labels)) < fraction
    others = (labels + generator.integers(1, num_classes, len(labels))) % num_classes
    return np.where(flipped, others, labels)


def _source(
    features: ArrayLike, labels: ArrayLike, class_names: tuple[str, ...], feature_names: tuple[str, ...]
) -> Source:  # fmt: skip
    return Source(
        features=torch.as_tensor(np.asarray(features), dtype=torch.float32),
        labels=torch.as_tensor(np.asarray(labels), dtype=torch.int64),
        class_names=class_names,
        feature_names=feature_names,
    )
