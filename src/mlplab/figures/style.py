"""How all figures look. Colours are told apart by colour-blind readers too."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlplab.data.pictures import COLOURS

TRAIN_COLOUR, VAL_COLOUR = COLOURS[0], COLOURS[5]
GREY = "#888888"


LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.15, 0.4, 0.55
"""Room around a panel for its title, labels and numbers, in inches."""


def panels(columns: int, *, width: float = 4.6, height: float = 3.7) -> tuple[Figure, list[Axes]]:
    """An empty figure with panels side by side, each `width` × `height` inches, labels included.

    Their places are fixed: finding them by the size of the texts would double the time that a figure takes.
    """
    figure = Figure(figsize=(width * columns, height))
    row = figure.subplots(1, columns, squeeze=False)[0]
    figure.subplots_adjust(
        left=LEFT / (width * columns), right=1 - RIGHT / (width * columns),
        wspace=(LEFT + RIGHT) / (width - LEFT - RIGHT), bottom=BOTTOM / height, top=1 - TOP / height,
    )  # fmt: skip
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(row)


def png(figure: Figure, *, dpi: int) -> bytes:
    """A figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, pil_kwargs={"compress_level": 4})
    return file.getvalue()


def share_axes(axes: Axes, *, x: str, y: str, title: str) -> None:
    """Both axes from 0 to 1, square."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=x, ylabel=y, title=title)
