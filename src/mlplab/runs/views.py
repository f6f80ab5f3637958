"""Several views of each image, whose mean is predicted: what an evaluation may report beside the plain score."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlplab.data.augment import shift

View = tuple[bool, int, int]
"""Whether an image is mirrored, and by how many steps it is moved down and right."""
PLACES = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
VIEWS: dict[str, list[View]] = {
    "flip": [(False, 0, 0), (True, 0, 0)],
    "shift": [(False, *place) for place in PLACES],
    "flip_and_shift": [(mirrored, *place) for mirrored in (False, True) for place in PLACES],
}
"""What `views=` says → the views."""
STEPS = 16
"""A step is the size of an image divided by this, in whole pixels, at least one."""


class MeanOfViews(nn.Module):
    """The mean of a network's logits over views of each image.

    Images are normalized; `black` (1, channels, height, width) is a black one, which fills what a shift leaves empty.
    """

    def __init__(self, network: nn.Module, *, views: Sequence[View], black: Tensor) -> None:
        super().__init__()
        self.network, self.views, self.black = network, views, black

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) → logits (batch, outputs)."""
        return torch.stack([self.network(self._seen(images, *view)) for view in self.views]).mean(dim=0)

    def _seen(self, images: Tensor, mirrored: bool, down: int, right: int) -> Tensor:
        if down or right:
            black, steps = self.black.to(images.device), [max(1, size // STEPS) for size in images.shape[2:]]
            ones = torch.ones(len(images), dtype=torch.int64, device=images.device)
            pixels = [ones * step * count for step, count in zip(steps, (down, right), strict=True)]
            images = shift(images - black, *pixels, reach=max(steps)) + black
        return images.flip(3) if mirrored else images
