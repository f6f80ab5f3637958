"""A page in one HTML file: what stands on it as plain values, rendered with all text escaped."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlplab.files import now
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

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], **options: Any) -> "Table":
        """A table of rows with the same headings: heading → cell."""
        return cls(list(rows[0]), [list(row.values()) for row in rows], **options)


def html(template: str, *, made_by: str, **values: Any) -> str:
    """A page as one file without scripts, that loads nothing from elsewhere; `values` are what its template needs."""
    environment = Environment(
        loader=PackageLoader("mlplab.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(made=f"Made {now()} by {made_by}.", **values)


def image(path: Path, alt: str) -> Markup:
    """A PNG or WebP file as markup that holds its bytes; nothing for what is none, or too large for a page."""
    content = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_IMAGE_BYTES else b""
    kind = {b"\x89PNG": "png", b"RIFF": "webp"}.get(content[:4])
    encoded = base64.b64encode(content).decode("ascii")
    return Markup(f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{encoded}">' if kind else "")


def made_with(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Versions, hardware and code of runs; several where they differ."""
    facts: dict[str, dict[str, None]] = {}
    for result in results:
        about = {"hardware": result.get("hardware"), "code": result.get("git_commit")}
        for name, value in (part(result, "versions") | about).items():
            facts.setdefault(name, {})[str(value or "unknown")] = None
    return {name: "; ".join(values) for name, values in facts.items()}
