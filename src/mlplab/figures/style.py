"""How all figures look, as PNG files and as SVG inside pages. Colours are told apart by colour-blind readers too."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c3e")
"""Okabe & Ito without yellow and black, which a light or a dark page swallows; page.css has them for both."""
MARKERS = "osD^vPX"
INK, FAINT, PAPER = "#1a2b3c", "#a1b2c3", "#f1f2f3"  # in a page: its text, its thin lines, and its ground
MOST_LINES = 6
LONGEST_LABEL = 14
WIDE_RANGE, VAST_RANGE = 10, 50
"""From this ratio of the largest to the smallest value on, an axis, and that of a measured value, is logarithmic."""
STYLE: Any = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": FAINT, "grid.alpha": 0.35,
    "axes.axisbelow": True, "legend.frameon": False, "lines.linewidth": 1.8, "axes.unicode_minus": True,
    "axes.formatter.useoffset": False, "axes.formatter.limits": (-4, 6), "axes.prop_cycle": cycler(color=COLOURS),
    "figure.titlesize": 11, "legend.fontsize": 9, "legend.title_fontsize": 9,
}  # fmt: skip
"""`text.parse_math` is off, so that a dollar sign in a label of someone else's is a dollar sign."""


def panels(
    columns: int, *, width: float = 4.6, height: float = 3.7, title: str = "", lines_below: int = 0, **options: Any
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """An empty figure with panels side by side, each `width` × `height` inches, labels included.

    The title of all of them, and the lines below them that `legend_below` needs, come in addition. Their places are
    fixed: finding them by the size of the texts would double the time that a figure takes.
    """
    above, below = 0.4 + 0.3 * bool(title), 0.55 + 0.3 * lines_below
    wide, high = width * columns, height - 0.95 + above + below
    figure = Figure(figsize=(wide, high))
    figure.suptitle(title, y=1 - 0.08 / high, va="top")
    row = figure.subplots(1, columns, squeeze=False, gridspec_kw={
        "left": 0.75 / wide, "right": 1 - 0.15 / wide, "wspace": 0.9 / (width - 0.9),
        "bottom": below / high, "top": 1 - above / high,
    }, **options)  # fmt: skip
    return figure, list(row[0])


def legend_below(axes: Axes, *, columns: int) -> None:
    """A legend under the panel, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, columnspacing=1.2)


def as_png(draw: Callable[[], Figure], *, dpi: int) -> bytes:
    """What a function draws, as the content of a PNG file."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        draw().savefig(file, format="png", dpi=dpi, pil_kwargs={"compress_level": 4})
    return file.getvalue()


def as_film(images: Sequence[bytes]) -> bytes:
    """PNG images of one size as an animated WebP, two in a second; it stands still at its end before it begins anew."""
    file, frames = io.BytesIO(), [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
    durations = [*[500] * (len(frames) - 1), 2000]
    frames[0].save(file, "webp", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=70)
    return file.getvalue()


def as_svg(draw: Callable[..., Figure]) -> Callable[..., Markup]:
    """Make a function that draws a figure give it as SVG for a page; `alt` says in words what it shows."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, alt: str, **options: Any) -> Markup:
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"{draw.__name__} {alt}"}):
            figure, file = draw(*arguments, **options), io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        return inline(file.getvalue(), alt)

    return drawn


def inline(svg: str, alt: str) -> Markup:
    """matplotlib's SVG file as an element of a page; matplotlib has escaped all text in it."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    page = (INK, "ink"), (FAINT, "faint"), (PAPER, "paper")
    for colour, name in (*page, *((hue, f"c{i}") for i, hue in enumerate(COLOURS))):
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1))


def look(index: int) -> dict[str, Any]:
    """Colour and marker of the line with this index."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def is_wide(values: list[float], ratio: float = WIDE_RANGE) -> bool:
    """Whether positive values span so much that only a logarithmic axis shows them all."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= ratio


def make_plain(axes: Axes) -> None:
    """A linear x axis of few plain numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(plain)


def make_logarithmic(axes: Axes, which: str, *, ticks: list[float] | None = None) -> None:
    """A logarithmic x or y axis with plain numbers; at `ticks` only, where they are given."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())
    if ticks is not None and len(ticks) <= 12:
        axis.set_ticks(ticks)
        axis.set_ticks([], minor=True)
    else:
        axis.set_major_locator(LogLocator(numticks=6))


def shortened(label: str) -> str:
    """A name that leaves room for others."""
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def plain(value: float, _: float = 0) -> str:
    """A number on an axis: 0.01, 10, 2k, 35k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
