"""Figures of samples: image grids, scatter plots, brightness. Colours are told apart by colour-blind readers too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mlplab.config.keys import require
from mlplab.errors import ConfigError

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


def brightness_figure(per_image: Tensor, *, mean: float, darkest: Tensor, brightest: Tensor) -> Figure:
    """The histogram of per-image brightness (n,) above the darkest and the brightest images (k, channels, h, w)."""
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=(3, 1.1, 1.1))
    axes = parts[0].subplots()
    low, high = float(per_image.min()), float(per_image.max())
    axes.hist(per_image.numpy(), bins=60, range=(low, high) if low < high else (0, 1), color=COLOURS[0])
    axes.axvline(mean, color=COLOURS[5], linestyle="--", label=f"mean of all {len(per_image):,} images: {mean:.4f}")
    axes.set(title="Brightness of the images", xlabel="mean brightness of an image (0 black, 1 white)", ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    ascending = per_image.sort().values
    for part, name, images, values in (
        (parts[1], "Darkest", darkest, ascending[: len(darkest)]),
        (parts[2], "Brightest", brightest, ascending.flip(0)[: len(brightest)]),
    ):
        part.suptitle(f"{name} images", fontsize=10)
        for cell, image, value in zip(part.subplots(1, len(images), squeeze=False)[0], images, values, strict=True):
            draw_image(cell, image)
            cell.set_xlabel(f"{value:.3f}", fontsize=9)
    return figure


def shortened(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def figure_path(figure: Any) -> Path | None:
    """Where to draw, None for nowhere. Raises ConfigError for a format that there is not, or a folder that is not."""
    require("figure", figure)
    if figure is None:
        return None
    path, formats = Path(figure), Figure().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise ConfigError(f"figure={path} must end in .png or another of: {', '.join(sorted(formats))}")
    above = path.parent.parent  # the file's own folder is made with it
    if not path.parent.is_dir() and not above.is_dir():
        raise ConfigError(f"figure={path}: no folder {above}; make it, or choose another")
    return path


def save(figure: Figure, path: Path) -> None:
    """Raises ConfigError when the file cannot be written."""
    try:
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ConfigError(f"figure={path} cannot be written: {error.strerror}; choose another file") from error
