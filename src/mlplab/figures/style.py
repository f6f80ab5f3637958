"""How all figures look. Colours are told apart by colour-blind readers too."""

import io

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlplab.figures.pictures import COLOURS

TRAIN_COLOUR, VAL_COLOUR = COLOURS[0], COLOURS[5]
GREY = "#888888"


LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.15, 0.4, 0.55
"""Room around a panel for its title, labels and numbers, in inches."""
LINE = 0.3
"""Height of a line of text above or below the panels, in inches."""


def panels(
    columns: int, *, width: float = 4.6, height: float = 3.7, title: str = "", lines_below: int = 0
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """An empty figure with panels side by side, each `width` × `height` inches, labels included.

    The title of all of them, and the lines below them that `legend_below` needs, come in addition. Their places are
    fixed: finding them by the size of the texts would double the time that a figure takes.
    """
    above, below = TOP + LINE * bool(title), BOTTOM + LINE * lines_below
    height += above - TOP + below - BOTTOM
    figure = Figure(figsize=(width * columns, height))
    row = figure.subplots(1, columns, squeeze=False)[0]
    figure.subplots_adjust(
        left=LEFT / (width * columns), right=1 - RIGHT / (width * columns),
        wspace=(LEFT + RIGHT) / (width - LEFT - RIGHT), bottom=below / height, top=1 - above / height,
    )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=11, y=1 - 0.08 / height, va="top")
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(row)


def png(figure: Figure, *, dpi: int) -> bytes:
    """A figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, pil_kwargs={"compress_level": 4})
    return file.getvalue()


def legend_below(axes: Axes, *, columns: int) -> None:
    """A legend under the panel, where it hides nothing."""
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, frameon=False, fontsize=9, columnspacing=1.2
    )  # fmt: skip


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def share_axes(axes: Axes, *, x: str, y: str, title: str) -> None:
    """Both axes from 0 to 1, square."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=x, ylabel=y, title=title)
