"""Per-sample augmentation of whole batches, on the device that trains.

Every random choice comes from the uniform numbers that are passed in, one row per sample, so that a sample looks the
same whatever batch, worker, process or resumed run it is augmented in.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mlplab.data.loader import Batch

NUM_UNIFORMS = 7
"""How many uniform numbers one sample uses: flip, crop (y, x), translation (y, x), rotation, mixup."""


class Augmentation:
    """Random horizontal flip, crop with padding, translation, rotation and mixup, each drawn anew for every sample.

    `flip` is the probability of a mirror image; `crop` pads by so many black pixels on each side and crops back to the
    size at a random place; `translate` shifts by up to that fraction of the size in whole pixels; `rotate` turns by up
    to so many degrees either way (bilinear, the border filled with black); `mixup` is the largest share of another
    image (Zhang et al. 2018; 0.5: as with their α = 1). 0 leaves a kind out.
    """

    def __init__(
        self, *, flip: float = 0.0, crop: int = 0, translate: float = 0.0, rotate: float = 0.0, mixup: float = 0.0
    ) -> None:  # fmt: skip
        self.flip, self.crop, self.translate, self.rotate, self.mixup = flip, crop, translate, rotate, mixup

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Augment uint8 images (n, channels, height, width) with uniforms (n, NUM_UNIFORMS) in [0, 1): same shape.

        All but mixup, which needs labels.
        """
        if self.flip:
            images = torch.where((uniforms[:, 0] < self.flip)[:, None, None, None], images.flip(3), images)
        if self.crop or self.translate:
            images = self._shift(images, uniforms)
        if self.rotate:
            images = rotate(images, (2 * uniforms[:, 5] - 1) * self.rotate)
        return images

    def mix(self, batch: Batch, uniforms: Tensor, *, num_classes: int) -> Batch:
        """Mix each sample with the one before it in its batch, or in this process's part: any other, as it is shuffled.

        Labels become probabilities of the classes (batch, num_classes); the sample's own has at least half.
        """
        share = self.mixup * uniforms[:, 6]  # (batch,)
        features, labels = batch.features, F.one_hot(batch.labels, num_classes).to(batch.features.dtype)
        return batch._replace(
            features=features.lerp(features.roll(1, dims=0), share[:, None, None, None]),
            labels=labels.lerp(labels.roll(1, dims=0), share[:, None]),
        )

    def _shift(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Crop and translation together: both move an image by whole pixels."""
        reaches = [math.floor(self.translate * size) for size in images.shape[2:]]
        down, right = (
            (uniforms[:, 1 + axis] * (2 * self.crop + 1)).long()
            + (uniforms[:, 3 + axis] * (2 * reach + 1)).long()
            - (self.crop + reach)
            for axis, reach in enumerate(reaches)
        )  # (n,) each
        return shift(images, down, right, reach=self.crop + max(reaches))


def shift(images: Tensor, down: Tensor, right: Tensor, *, reach: int) -> Tensor:
    """Move each image (n, channels, height, width) by its own pixels down and right (n,), filling with 0.

    `reach` is the largest shift there is. The images are padded by it, and each row of the result is copied as a whole
    from where it starts in the padded memory: one `index_select`, about ten times as fast as indexing pixels.
    """
    num_images, channels, height, width = images.shape
    padded = F.pad(images, (reach, reach, reach, reach)).contiguous()  # rows must be runs in memory
    image_stride, channel_stride, row_stride, _ = padded.stride()
    image = torch.arange(num_images, device=images.device) * image_stride + (reach - down) * row_stride + reach - right
    channel = torch.arange(channels, device=images.device) * channel_stride
    row = torch.arange(height, device=images.device) * row_stride
    starts = image[:, None, None] + channel[:, None] + row  # (n, channels, height)
    windows = padded.as_strided((padded.numel() - width + 1, width), (1, 1))  # every run of `width` pixels in memory
    return windows.index_select(0, starts.flatten()).view(images.shape)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each uint8 image (n, channels, height, width) counter-clockwise about its centre by its degrees (n,)."""
    height, width = images.shape[2:]
    radians = degrees * (math.pi / 180)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # grid_sample works in coordinates from −1 to 1: the aspect ratio keeps the turn rigid where height ≠ width.
    rows = [[cos, -sin * (height / width), zero], [sin * (width / height), cos, zero]]
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # (n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round().to(images.dtype)
