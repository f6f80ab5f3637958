"""Two pictures of studies as PNG files, small enough for a README: curves of a sweep, and its figures in a row."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image

from mlplab.figures.style import STYLE
from mlplab.report.curves import curves
from mlplab.report.groups import Group, grouped
from mlplab.report.runs import find, read, read_sweep
from mlplab.report.study import study_of

HEIGHT = 330
"""Pixels of a figure in a row."""


def groups_of(sweep: Path) -> list[Group]:
    """The groups of a sweep that finished, in the order of its report. Raises ConfigError where there is no run."""
    folders, _ = find([sweep])
    runs, _ = read(folders)
    study = study_of(read_sweep(sweep), runs)
    return [group for group in grouped(runs, first=[key for key in (study.x, study.group) if key]) if group.runs]


def save_curves(sweep: Path, output: Path, *, metrics: Sequence[str]) -> None:
    """The report's curves of some metrics against updates, samples seen and seconds."""
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path"}):
        figure = curves.__wrapped__(groups_of(sweep), metrics)  # type: ignore[attr-defined]
        figure.savefig(output, dpi=80)
    compress(Image.open(output), output)


def save_row(sweep: Path, output: Path, *, figure: str) -> None:
    """One figure of the first run of each group, side by side."""
    paths = [group.runs[0].folder / "figures" / f"{figure}.png" for group in groups_of(sweep)]
    images = [Image.open(path).convert("RGB") for path in paths]
    images = [image.resize((round(image.width * HEIGHT / image.height), HEIGHT)) for image in images]
    row = Image.new("RGB", (sum(image.width for image in images), HEIGHT), "white")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width
    compress(row, output)


def compress(image: Image.Image, output: Path) -> None:
    """Save with 256 colours, which takes a third of the room."""
    image.convert("RGB").quantize(256).save(output, optimize=True)


def save_gallery(sweeps: Path = Path("outputs/sweeps"), gallery: Path = Path("outputs/gallery")) -> None:
    """The README's pictures of two studies, which must have been run: `make gallery`."""
    save_curves(sweeps / "batching", gallery / "batching.png", metrics=["val/loss"])
    save_row(sweeps / "overfitting", gallery / "capacity.png", figure="decision_boundary")
