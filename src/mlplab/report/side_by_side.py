"""One figure of each setting, side by side: what a table cannot show, such as decision boundaries."""

from collections.abc import Sequence
from pathlib import Path

from mlplab.figures.style import Picture
from mlplab.report.groups import Group
from mlplab.report.page import Section, image

MOST_PICTURES = 30


def side_by_side(figure: str, groups: Sequence[Group]) -> Section | None:
    """`figures/<figure>.png` of the first run of each group; None where there is none, or none was asked for."""
    name = figure.replace("_", " ")
    pictures = []
    for group in groups[:MOST_PICTURES] if figure else ():
        path = group.runs[0].folder / "figures" / f"{Path(figure).name}.png"
        if markup := image(path, f"{name} of {group.label}"):
            pictures.append(Picture(markup, group.label))
    if not pictures:
        return None
    notes = ["Of one run of each setting, at the end of training."]
    return Section(f"{name.capitalize()} side by side", pictures=pictures, notes=notes, side_by_side=True)
