"""A page in one HTML file: what stands on it as plain values, rendered with all text escaped."""

import base64
import functools
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlplab.figures.style import Picture

PNG = b"\x89PNG\r\n\x1a\n"
MAX_IMAGE_BYTES = 20_000_000


@dataclass(frozen=True)
class Table:
    """Cells as text; the first `num_names` columns are names, the others numbers; `marked` is the best row's index."""

    headings: list[str]
    rows: list[list[str]]
    num_names: int = 1
    marked: int | None = None


@dataclass(frozen=True)
class Section:
    """A part of a page; what is empty is left out. `folded` hides it behind its title until it is asked for.

    `side_by_side` puts as many of its pictures into a row as there is room for.
    """

    title: str
    text: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    code: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folded: bool = False
    side_by_side: bool = False


@dataclass(frozen=True)
class Page:
    """The head of a page and its sections. `numbers` are a few figures at a glance: what → how much."""

    kind: str
    title: str
    question: str
    claim: str
    source: str
    answer: list[str]
    numbers: dict[str, str]
    warnings: list[str]
    sections: list[Section]
    made: str

    def html(self) -> str:
        """The page as one file without scripts, that loads nothing from elsewhere."""
        return environment().get_template("page.html.j2").render(page=self)


@functools.cache
def environment() -> Environment:
    return Environment(
        loader=PackageLoader("mlplab.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def image(path: Path, alt: str) -> Markup | None:
    """A PNG file as markup that holds its bytes; None for what is no PNG, or larger than a page should hold."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_IMAGE_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if not content.startswith(PNG):
        return None
    encoded = base64.b64encode(content).decode("ascii")
    return Markup(f'<img alt="{escape(alt)}" src="data:image/png;base64,{encoded}">')
