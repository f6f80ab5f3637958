"""What a network may be told of images before it is trained: their frequencies, and filters to begin with."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlplab.errors import ConfigError


class CosineTransform(nn.Module):
    """Images (batch, channels, height, width) as the orthonormal two-dimensional DCT-II: as much of each frequency.

    A rotation of the features, which leaves an MLP what it is; but Adam adapts its rates along the axes, and those of
    frequencies suit images better than those of pixels. With `lowest`, only so many are kept along each side, which
    leaves out the finest detail; this needs square images of one or three channels. `num_features` is what is left.
    """

    def __init__(self, num_features: int, lowest: bool | int = True) -> None:
        super().__init__()
        self.lowest, self.num_features = None if lowest is True else lowest, num_features
        if self.lowest is not None:
            channels, _ = square_images(f"model.cosine_transform={lowest}", num_features, least=self.lowest)
            self.num_features = channels * self.lowest**2

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4:
            raise ConfigError("model.cosine_transform needs images; set it to false")
        height, width = (cosines(size)[: self.lowest].to(images) for size in images.shape[2:])
        return height @ images @ width.T

    def inverse(self, frequencies: Tensor, shape: Sequence[int]) -> Tensor:
        """The images (n, *shape) that have these frequencies (n, num_features) and no others."""
        height, width = (cosines(size)[: self.lowest].to(frequencies) for size in shape[1:])
        return height.T @ frequencies.view(-1, shape[0], len(height), len(width)) @ width


def cosines(size: int) -> Tensor:
    """The matrix of the orthonormal DCT-II (size, size): a cosine in each row, the slowest first."""
    frequency, place = torch.arange(size)[:, None], torch.arange(size) + 0.5
    waves = torch.cos(math.pi / size * frequency * place) * math.sqrt(2 / size)
    return torch.where(frequency == 0, math.sqrt(1 / size), waves)


def begin_as_gabor_filters(linear: nn.Linear, num_features: int, transform: CosineTransform | None) -> None:
    """Give each unit of the first layer a Gabor filter for weights, of norm √2 (as He et al. 2015).

    The layer sees images of `num_features` pixels and channels, or what `transform` makes of them. Raises ConfigError
    for data that cannot be square images of one or three channels.
    """
    filters = gabor_filters(linear.out_features, *square_images("model.gabor_filters=true", num_features))
    filters = (filters if transform is None else transform(filters)).flatten(start_dim=1)
    with torch.no_grad():
        linear.weight.copy_(math.sqrt(2) * F.normalize(filters))


def gabor_filters(num_filters: int, channels: int, size: int) -> Tensor:
    """Random waves under a bell curve, as the first cells of seeing have them: (num_filters, channels, size, size).

    Each has its own place, direction, phase and colours, of which grey is the strongest. The bell's standard deviation
    σ is between 1/20 and 1/6 of the size, the wave's length between 1.7 and 10.3 σ (Daugman 1985; Olshausen & Field
    1996).
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(num_filters, 1, 1).uniform_(low, high)

    place = torch.arange(size) + 0.5
    down, right = place[:, None] - uniform(0, size), place - uniform(0, size)  # (filters, size, 1), (filters, 1, size)
    sigma = size * uniform(math.log(1 / 20), math.log(1 / 6)).exp()
    direction, phase = uniform(0, math.pi), uniform(0, 2 * math.pi)
    frequency = uniform(math.log(0.61), math.log(3.7)).exp() / sigma  # radians per pixel
    waves = torch.cos(frequency * (down * direction.sin() + right * direction.cos()) + phase)
    bells = torch.exp(-(down**2 + right**2) / (2 * sigma**2))
    colours = torch.randn(num_filters, 1, 1, 1).sign() + torch.randn(num_filters, channels, 1, 1) / 2
    return colours * (waves * bells)[:, None]


def square_images(key: str, num_features: int, *, least: int = 1) -> tuple[int, int]:
    """Channels and size of square images with so many features. Raises ConfigError where they cannot be such."""
    channels = 1 if math.isqrt(num_features) ** 2 == num_features else 3
    size = math.isqrt(num_features // channels)
    if channels * size**2 != num_features or size < least:
        at_least = f", of at least {least} pixels a side" if least > 1 else ""
        raise ConfigError(
            f"{key} needs square images, grey or of three colours{at_least}; these data have {num_features} features"
        )
    return channels, size
