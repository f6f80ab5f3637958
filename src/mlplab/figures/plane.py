"""The plane of two features; without matplotlib, since a run looks at it while it trains."""

import torch
from torch import Tensor


def ends(features: Tensor, *, margin: float = 0.05) -> Tensor:
    """Low and high (2, 2) of both features (n, 2), with room around all samples as a fraction of their span."""
    low, high = torch.aminmax(features, dim=0)
    room = margin * torch.where(high > low, high - low, 1.0)
    return torch.stack([low - room, high + room])


def grid(features: Tensor, resolution: int) -> Tensor:
    """Points (resolution², 2) between the ends of features (n, 2), row by row from the bottom; edges included."""
    x, y = (torch.linspace(low, high, resolution) for low, high in ends(features).T.tolist())
    return torch.cartesian_prod(y, x).flip(1)
