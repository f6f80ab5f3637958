"""Figures of the inside of a network: its layers over training, its weights, what its first layer looks for."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mlplab.figures.learning import Rows, curve, epoch_axis, from_zero, log_where_wide
from mlplab.figures.pictures import COLOURS
from mlplab.figures.style import legend_below, panels, whole_ticks

PANELS = (
    ("weight_norm", "Weights", "L2 norm"),
    ("update_to_weight", "Update-to-weight ratio", "‖update‖ / ‖weights‖"),
    ("dead_relus", "Dead ReLUs", "share of units that are always 0"),
)
LINES = ("-", "--", ":")
"""So that of curves that lie on each other all are seen."""
LEGEND_COLUMNS = 3
MOST_UNITS = 64
"""First-layer units that are shown."""


def layers(rows: Rows) -> Figure:
    """Norms, update-to-weight ratios and dead ReLUs of each layer over the epochs.

    The columns are `<quantity>/<layer>`, besides `epoch`.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [panel for panel in PANELS if any(name.startswith(f"{panel[0]}/") for name in names)]
    of_each = [[name for name in names if name.startswith(f"{quantity}/")] for quantity, _, _ in shown]
    figure, axes_row = panels(
        len(shown), width=4.2, lines_below=-(-max(map(len, of_each), default=0) // LEGEND_COLUMNS)
    )  # fmt: skip
    for axes, (quantity, title, label), curves in zip(axes_row, shown, of_each, strict=True):
        for index, name in enumerate(curves):
            colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
            curve(axes, rows, name, label=name.partition("/")[2], colour=colour, line=line)
        axes.set(title=title, ylabel=label)
        epoch_axis(axes, rows)
        if quantity == "dead_relus":
            axes.set_ylim(-0.02, 1.02)
        elif not log_where_wide(axes, rows, curves, wide=20):
            from_zero(axes, rows, curves)
        legend_below(axes, columns=LEGEND_COLUMNS)
    return figure


def weight_histograms(weights: Mapping[str, Tensor], *, when: str = "", most: int = 8) -> Figure:
    """The distribution of the weights of each layer, of at most so many layers. `when` says at which moment."""
    chosen = list(weights.items())[:most]
    figure, axes_row = panels(len(chosen), width=3.0, height=3.0, title=f"Weights of each layer{when}")
    for axes, (name, values) in zip(axes_row, chosen, strict=True):
        numbers = values.detach().float().flatten().cpu().numpy()
        axes.hist(numbers, bins=min(60, max(10, math.isqrt(len(numbers)))), color=COLOURS[0])
        axes.axvline(0, color="black", linewidth=0.5)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(f"weight (standard deviation {numbers.std():.3g})", fontsize=9)
        axes.locator_params(axis="x", nbins=5)
        whole_ticks(axes.yaxis)
    axes_row[0].set_ylabel("number of weights")
    return figure


def first_layer(weights: Tensor, *, shape: Sequence[int], unit_names: Sequence[str] = (), when: str = "") -> Figure:
    """The weights of the first layer's units (units, features) as images of `shape` (channels, height, width).

    One channel: blue is negative, red positive, white 0. Colour: grey is 0. Of many units those with the largest
    norms are shown. Each image has its own scale. `when` says at which moment.
    """
    order = weights.norm(dim=1).argsort(descending=True)[:MOST_UNITS] if not unit_names else torch.arange(len(weights))
    images = weights[order].reshape(-1, *shape).float().cpu()
    images = images / images.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)  # −1 to 1
    columns = min(len(images), 5 if unit_names else 8 if len(images) <= 32 else 16)
    tiles = mosaic(images, columns)
    width = max(4.8, columns * (1.5 if unit_names else 0.75))
    height = width * tiles.shape[1] / tiles.shape[2]
    title_height = 0.55
    figure = Figure(figsize=(width, height + title_height))
    axes = figure.add_axes((0.01, 0, 0.98, 0.98 * height / (height + title_height)))
    if shape[0] == 3:
        axes.imshow(np.nan_to_num(0.5 + 0.5 * tiles.transpose(1, 2, 0), nan=1.0), interpolation="nearest")
    else:
        axes.imshow(tiles[0], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.axis("off")
    for index, name in enumerate(unit_names):
        row, column = divmod(index, columns)
        pitch = np.array([tiles.shape[1] / -(-len(images) // columns), tiles.shape[2] / columns])
        y, x = pitch * (row, column + 0.5)
        axes.text(x, y, name[:16], ha="center", va="top", fontsize=9, bbox={"color": "white", "alpha": 0.7, "pad": 1})
    more = f" ({len(images)} of {len(weights)} units, the largest)" if len(images) < len(weights) else ""
    scale = "grey: weight 0, bright: positive" if shape[0] == 3 else "white: weight 0, blue: negative, red: positive"
    place = 1 - 0.06 / (height + title_height)
    figure.suptitle(f"What the first layer looks for{when}{more}\n{scale}", fontsize=10, y=place, va="top")
    return figure


def mosaic(images: Tensor, columns: int) -> np.ndarray:
    """Images (n, channels, height, width) in rows with gaps of NaN between them: (channels, height, width)."""
    gap = max(1, images.shape[-1] // 12)
    padded = nn.functional.pad(images, (0, gap, 0, gap), value=float("nan"))
    missing = -len(padded) % columns
    padded = torch.cat([padded, torch.full((missing, *padded.shape[1:]), float("nan"))])
    grid = padded.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)  # (channels, rows, height, columns, width)
    return grid.flatten(3, 4).flatten(1, 2).numpy()
