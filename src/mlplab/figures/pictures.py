"""Figures of samples: image grids and scatter plots. Colours are told apart by colour-blind readers too."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")  # Okabe & Ito
MARKERS = "o^sDvPX*"
LONGEST_LABEL = 14


def image_grid(
    rows: Sequence[Tensor], *, labels: Sequence[str], title: str, column_names: Sequence[str] = ()
) -> Figure:  # fmt: skip
    """Rows of uint8 images (columns, channels, height, width).

    There is one label above each image, in reading order; or with `column_names` one at the left of each row.
    """
    num_columns = max(len(row) for row in rows)
    height = (1.15 if column_names else 1.4) * len(rows) + 0.5
    figure = Figure(figsize=(1.1 * num_columns + 0.6, height), layout="constrained")
    figure.suptitle(title)
    grid: Any = figure.subplots(len(rows), num_columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")  # the last row may be shorter
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            draw_image(grid[row, column], image)
            if not column_names:
                grid[row, column].set_title(shortened(labels[row * num_columns + column]), fontsize=9)
        if column_names:
            grid[row, 0].set_ylabel(shortened(labels[row]), rotation=0, ha="right", va="center", fontsize=9)
    for column, name in enumerate(column_names):
        grid[0, column].set_title(name, fontsize=9)
    return figure


def draw_image(axes: Axes, image: Tensor, *, extent: tuple[float, float, float, float] | None = None) -> None:
    """One uint8 image (channels, height, width) without ticks: grey, colour, or colour with opacity.

    It fills the axes, or their part from left to right and bottom to top that `extent` gives.
    """
    channels = image.shape[0]
    if channels in (3, 4):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", extent=extent)
    else:
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    axes.axis("on")
    axes.set(xticks=[], yticks=[])


def scatter(features: Tensor, labels: Tensor, *, class_names: Sequence[str], axis_names: Sequence[str]) -> Figure:
    """Samples with two features (n, 2), one colour and marker per class (n,)."""
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    for label, name in enumerate(class_names):
        x, y = features[labels == label].numpy().T
        marker = MARKERS[(label + label // len(COLOURS)) % len(MARKERS)]
        style: dict[str, Any] = {"color": COLOURS[label % len(COLOURS)], "edgecolor": "black", "linewidth": 0.3}
        axes.scatter(x, y, s=14, marker=marker, label=f"{name} ({len(x):,})", **style)
    axes.set(title="Training samples", xlabel=axis_names[0], ylabel=axis_names[1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def shortened(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
