"""A page in one HTML file: what stands on it as plain values, rendered with all text escaped."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlplab.report.frames import part

MAX_IMAGE_BYTES = 20_000_000


@dataclass(frozen=True)
class Table:
    """Cells as text; the first `num_names` columns are names, the others numbers; `marked` is the best row's index.

    `shades` make it a heat map: a number from 0 to 1 for each cell of numbers.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1
    marked: int | None = None
    shades: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Page:
    """The head of a page. `numbers` are a few figures at a glance: what → how much."""

    kind: str
    title: str
    answer: Sequence[str]
    numbers: dict[str, str]
    warnings: Sequence[str]
    made: str
    question: str = ""
    claim: str = ""
    source: str = ""

    def html(self, template: str, **values: Any) -> str:
        """The page with its sections, one file without scripts that loads nothing from elsewhere."""
        environment = Environment(
            loader=PackageLoader("mlplab.report"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        return environment.get_template(template).render(page=self, **values)


def image(path: Path, alt: str) -> Markup | None:
    """A PNG file as markup that holds its bytes; None for what is no PNG, or larger than a page should hold."""
    try:
        content = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_IMAGE_BYTES else b""
    except OSError:
        return None
    encoded = base64.b64encode(content).decode("ascii")
    markup = Markup(f'<img alt="{escape(alt)}" src="data:image/png;base64,{encoded}">')
    return markup if content.startswith(b"\x89PNG\r\n\x1a\n") else None


def made_with(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Versions, hardware and code of runs; several where they differ."""
    facts: dict[str, dict[str, None]] = {}
    for result in results:
        about = {"hardware": result.get("hardware"), "code": result.get("git_commit")}
        for name, value in (part(result, "versions") | about).items():
            facts.setdefault(name, {})[str(value or "unknown")] = None
    return {name: "; ".join(values) for name, values in facts.items()}
