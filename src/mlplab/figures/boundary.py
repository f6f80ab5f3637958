"""What a network makes of the plane of two features."""

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from mlplab.figures.style import COLOURS, INK, panels, shortened


def decision_boundary(points: Tensor, probabilities: Tensor, data: Any, *, updates: int) -> Figure:
    """Class probabilities (n, classes) on a square grid (n, 2) of two features, and the samples of a DataModule.

    The points go row by row from the lowest values of both features to the highest, edges included.
    For two classes the colour is the probability of the second, white at 0.5; for more the classes' colours are mixed
    by their probabilities.
    """
    resolution, two_classes = round(len(points) ** 0.5), data.num_classes == 2
    values = probabilities.reshape(resolution, resolution, -1).float().numpy()  # (y, x, classes)
    hues = np.array([to_rgb(COLOURS[label % len(COLOURS)]) for label in range(data.num_classes)])
    x_ends, y_ends = points[[0, -1]].T.tolist()

    def edges(low: float, high: float) -> tuple[float, float]:
        half = (high - low) / (resolution - 1) / 2  # of a pixel, whose middle is the point
        return low - half, high + half

    figure, (axes,) = panels(1, width=6.5, height=5, lines_below=1 + (data.num_classes + 1) // 5)
    image = axes.imshow(
        values[..., 1] if two_classes else pale(values @ hues), interpolation="bilinear", vmin=0, vmax=1,
        cmap=LinearSegmentedColormap.from_list("two classes", np.stack([pale(hues[0]), np.ones(3), pale(hues[1])])),
        extent=(*edges(*x_ends), *edges(*y_ends)), origin="lower", aspect="auto",
    )  # fmt: skip
    if two_classes:
        figure.colorbar(image, label=f"probability of “{shortened(data.source.class_names[1])}”")
    signs = {}  # name → what it looks like; given to the legend, which leaves out names of its own that begin with _
    for split, name, marker, area in (("train", "training", "o", 16), ("val", "validation", "^", 26)):
        if len(indices := data.datasets[split].indices):
            (x, y), colours = data.source.features[indices].T.numpy(), hues[data.source.labels[indices].numpy()]
            axes.scatter(x, y, s=area, c=colours, marker=marker, edgecolor=INK, linewidth=0.5)
            signs[name] = axes.scatter([], [], color="grey", marker=marker, label=name)
    classes = [
        axes.scatter([], [], color=hue, marker="s", label=name)
        for name, hue in zip(data.source.class_names, hues, strict=True)
    ]
    names = [*signs, *map(shortened, data.source.class_names)]
    figure.legend([*signs.values(), *classes], names, loc="lower center", ncols=5)
    first, second = data.source.feature_names or ("x₁", "x₂")
    title = f"Decision boundary after epoch {updates / data.updates_per_epoch:g}"
    axes.set(xlabel=first, ylabel=second, title=title, xlim=x_ends, ylim=y_ends)
    axes.grid(visible=False)
    return figure


def pale(colours: np.ndarray) -> np.ndarray:
    """Colours (…, 3) from 0 to 1, with so much white that samples of the same colour stand out from them."""
    return (0.45 + 0.55 * colours).clip(0, 1)
