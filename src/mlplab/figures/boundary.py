"""What a network makes of the plane of two features."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

from mlplab.figures.pictures import COLOURS
from mlplab.figures.plane import Plane

MARKERS = {"training": "o", "validation": "^"}


class DecisionBoundary:
    """Class probabilities over the plane of two features, with samples by split on top.

    `samples` gives for "training" and "validation" features (n, 2) and labels (n,). For two classes the colour is the
    probability of the second, white at 0.5; for more the classes' colours are mixed by their probabilities.
    """

    def __init__(
        self, plane: Plane, *, samples: dict[str, tuple[Tensor, Tensor]], class_names: Sequence[str],
        axis_names: Sequence[str], size: float = 5.0, dpi: int = 110,
    ) -> None:  # fmt: skip
        self.figure = Figure(figsize=(1.2 * size, size), dpi=dpi, layout="constrained")
        self.axes = axes = self.figure.subplots()
        self.two_classes = len(class_names) == 2
        place: dict[str, Any] = {"extent": (*plane.x, *plane.y), "origin": "lower", "aspect": "auto"}
        self.image = axes.imshow(
            np.full((1, 1) if self.two_classes else (1, 1, 3), 0.5), cmap=diverging(), vmin=0, vmax=1,
            interpolation="bilinear", **place,
        )  # fmt: skip
        if self.two_classes:
            self.figure.colorbar(self.image, label=f"probability of “{class_names[1]}”")
        for split, (features, labels) in samples.items():
            colours = [COLOURS[label % len(COLOURS)] for label in labels.tolist()]
            style: dict[str, Any] = {"marker": MARKERS[split], "edgecolor": "black", "linewidth": 0.5}
            x, y = features.numpy().T
            axes.scatter(x, y, c=colours, s=(16 if split == "training" else 26) * size / 5, label=split, **style)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1], title="Decision boundary", xlim=plane.x, ylim=plane.y)
        shapes = [Line2D([], [], color="grey", marker=MARKERS[split], linestyle="", label=split) for split in samples]
        classes = [
            Line2D([], [], color=COLOURS[label % len(COLOURS)], marker="s", linestyle="", label=name)
            for label, name in enumerate(class_names)
        ]
        self.figure.legend(handles=shapes + classes, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
        self._canvas: FigureCanvasAgg | None = None  # with all that is the same in every frame
        self._empty: Any = None

    def draw(self, probabilities: Tensor, *, title: str) -> Figure:
        """The figure with class probabilities (resolution², classes) at the points of `plane.grid`."""
        resolution = round(len(probabilities) ** 0.5)
        grid = probabilities.reshape(resolution, resolution, -1).float().numpy()  # (y, x, classes)
        self.image.set_data(grid[..., 1] if self.two_classes else mixed(grid))
        self.axes.set_title(title)
        return self.figure

    def frame(self, probabilities: Tensor, *, title: str) -> bytes:
        """The same as the content of a PNG file, much faster from the second on: only what differs is drawn anew."""
        self.draw(probabilities, title=title)
        changing = [self.image, *self.axes.collections, *self.axes.spines.values(), self.axes.title]
        if self._canvas is None:
            self._canvas = FigureCanvasAgg(self.figure)
            self._canvas.draw()  # places everything
            self.figure.set_layout_engine("none")
            for artist in changing:
                artist.set_animated(True)
            self._canvas.draw()
            for artist in changing:
                artist.set_animated(False)
            self._empty = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._empty)
        for artist in changing:
            artist.draw(self._canvas.get_renderer())
        file = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).save(file, format="png", compress_level=4)
        return file.getvalue()


def diverging() -> LinearSegmentedColormap:
    """From the first class's colour through white to the second's."""
    first, second = pale(to_rgb(COLOURS[0])), pale(to_rgb(COLOURS[1]))
    return LinearSegmentedColormap.from_list("two classes", [tuple(first), "white", tuple(second)])


def mixed(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (…, classes) → colours (…, 3): those of the classes, mixed by their probabilities."""
    colours = np.array([to_rgb(COLOURS[label % len(COLOURS)]) for label in range(probabilities.shape[-1])])
    return pale(probabilities @ colours)


def pale(colours: Any) -> np.ndarray:
    """Colours (…, 3) from 0 to 1, with so much white that samples of the same colour stand out from them."""
    return (0.45 + 0.55 * np.asarray(colours)).clip(0, 1)
