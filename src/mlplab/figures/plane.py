"""The plane of two features."""

from typing import NamedTuple

import torch
from torch import Tensor


class Plane(NamedTuple):
    """A rectangle of the plane of two features: (low, high) of each."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def around(cls, features: Tensor, *, margin: float = 0.05) -> "Plane":
        """The smallest one that holds all samples (n, 2), with a margin as a fraction of its size."""
        low, high = features.amin(dim=0), features.amax(dim=0)
        size = high - low
        room = margin * torch.where(size > 0, size, 1.0)
        (left, bottom), (right, top) = (low - room).tolist(), (high + room).tolist()
        return cls((left, right), (bottom, top))

    def grid(self, resolution: int) -> Tensor:
        """Points (resolution², 2), row by row from the bottom; edges included."""
        y, x = torch.meshgrid(
            torch.linspace(*self.y, resolution), torch.linspace(*self.x, resolution), indexing="ij"
        )  # fmt: skip
        return torch.stack([x.flatten(), y.flatten()], dim=1)
