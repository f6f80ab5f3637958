"""Statistics of a whole data set that never need more than one batch of it as numbers."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mlplab.data.loader import EpochOrder, GroupedBatches, InMemoryDataset, make_loader
from mlplab.errors import ConfigError

CHANNEL_NAMES = {
    1: ("grey",),
    2: ("grey", "opacity"),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "opacity"),
}


class Brightness(NamedTuple):
    """Mean brightness from 0 (black) to 1 (white): over all images per channel and in total, and per image (n,)."""

    per_channel: dict[str, float]
    total: float
    per_image: Tensor


def brightness(datasets: Iterable[InMemoryDataset], *, batch_size: int) -> Brightness:
    """Mean brightness of uint8 images, added up as integers: exact to float64 whatever the batch size.

    Opacity has a mean of its own, but does not count as brightness. Raises ConfigError without any image.
    """
    parts, pixels = [], 0
    for dataset in datasets:
        batches = GroupedBatches(EpochOrder(len(dataset), shuffle=False), batch_size=batch_size)
        for images, *_ in make_loader(dataset, batches, num_workers=0, pin_memory=False):
            pixels = images[0, 0].numel()
            parts.append(images.flatten(start_dim=2).sum(dim=2, dtype=torch.int64))  # (batch, channels)
    if not parts:
        raise ConfigError("there are no images in this split; choose another")
    sums = torch.cat(parts)  # (n, channels)
    num_images, num_channels = sums.shape
    names = CHANNEL_NAMES.get(num_channels) or tuple(f"channel {index}" for index in range(num_channels))
    colours = [index for index, name in enumerate(names) if name != "opacity"]
    # Python divides integers of any size with a single rounding.
    whole = 255 * pixels * num_images
    return Brightness(
        per_channel={name: int(total) / whole for name, total in zip(names, sums.sum(dim=0), strict=True)},
        total=int(sums[:, colours].sum()) / (whole * len(colours)),
        per_image=sums[:, colours].sum(dim=1).double() / (255 * pixels * len(colours)),
    )
