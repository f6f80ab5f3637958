"""Names of classes and features are drawn as they are, in every figure: no mathematics, none left out."""

import html
from types import SimpleNamespace

import pytest
import torch

from mlplab.figures import boundary, classification, images
from mlplab.figures.style import as_png, as_svg

NAMES = ["$5 to $9", "a$x$", "_hidden", "$^\\frac{$", "<b>&", " ", "very long " * 9]
LABELS = torch.arange(60)


def drawings(names):
    """Figure → (the function that draws it, the names that it shows)."""
    count, options = len(names), {"class_names": names, "of": "samples"}
    labels, seen = LABELS % count, torch.rand(60, count).softmax(1)
    both = {"train": SimpleNamespace(indices=LABELS), "val": SimpleNamespace(indices=LABELS[:0])}
    source = SimpleNamespace(features=torch.rand(60, 2), labels=labels, class_names=names, feature_names=names[:2])
    data = SimpleNamespace(num_classes=count, source=source, datasets=both, updates_per_epoch=3)
    plane = torch.cartesian_prod(torch.linspace(0, 1, 5), torch.linspace(0, 1, 5))
    return {
        "confusion": lambda: classification.confusion(seen, labels, **options),
        "extremes": lambda: images.extremes(torch.zeros(60, 1, 4, 4).byte(), labels, seen, **options),
        "decision_boundary": lambda: boundary.decision_boundary(plane, seen[:25], data, updates=3),
        "first_layer": lambda: images.first_layer(torch.rand(count, 16), shape=(1, 4, 4), unit_names=names, when="now"),
        "precision_recall": lambda: classification.precision_recall(seen[:, :2], LABELS % 2, **options),
    }


@pytest.mark.parametrize("names", [NAMES, NAMES[:2], ["_a", "_b"]], ids=len)
@pytest.mark.parametrize("figure", ["confusion", "extremes", "decision_boundary", "first_layer", "precision_recall"])
def test_names_are_drawn_as_they_are(figure, names):
    draw = drawings(names)[figure]
    assert as_png(draw, dpi=40).startswith(b"\x89PNG")
    svg = as_svg(draw)(alt="")
    shown = names[1:2] if figure == "precision_recall" else names
    assert [name for name in shown if html.escape(name[:13], quote=False) not in svg] == []
