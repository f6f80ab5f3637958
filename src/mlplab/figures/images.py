"""Figures of image samples: as the network sees them, and those that it gets most wrong."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mlplab.figures.pictures import draw_image, image_grid, shortened

ROWS, COLUMNS = 4, 8
CELL = 1.2
"""Inches for an image in `extremes`."""
TITLE = 0.35
"""Inches for the title."""


def training_samples(data: Any) -> Figure:
    """The first samples of the first epoch of a DataModule with images; if it augments, as they are in each epoch."""
    train = data.datasets["train"]
    sampler = data.train_dataloader().batch_sampler.sampler
    positions = sampler.order()[: ROWS * (1 if data.augmentation else COLUMNS)]
    indices = train.indices[positions]
    images = train.features[indices]
    labels = [data.source.class_names[label] for label in train.labels[indices]]
    if not data.augmentation:
        return image_grid(images.split(COLUMNS), labels=labels, title="Training samples")
    versions = [images, *(data.augmented(positions, epoch=epoch) for epoch in range(COLUMNS - 1))]
    rows = torch.stack(versions, dim=1).unbind(0)  # each (versions, channels, height, width)
    columns = ["as stored", *(f"in epoch {epoch}" for epoch in range(1, COLUMNS))]
    return image_grid(rows, labels=labels, title="Training samples, and how they are augmented", column_names=columns)


def extremes(
    images: Tensor, labels: Tensor, probabilities: Tensor, *, class_names: Sequence[str], of: str = ""
) -> Figure:  # fmt: skip
    """The most confident mistakes, and the least certain hits, with their predicted and true classes.

    uint8 `images` (n, channels, height, width), `labels` (n,), `probabilities` (n, classes); `of` says which
    samples they are, and at which moment.
    """
    confidence, predicted = probabilities.max(dim=1)
    wrong, right = (predicted != labels).nonzero()[:, 0], (predicted == labels).nonzero()[:, 0]
    mistakes = wrong[confidence[wrong].argsort(descending=True, stable=True)][: 2 * COLUMNS]
    hits = right[confidence[right].argsort(stable=True)][:COLUMNS]
    parts = (
        (f"The most confident of {len(wrong):,} mistakes", mistakes[:COLUMNS]), ("", mistakes[COLUMNS:]),
        (f"The least certain of {len(right):,} hits", hits),
    )  # fmt: skip
    rows = [(title, chosen) for title, chosen in parts if len(chosen)]
    # One coordinate system for all images, 1 wide each: axes of their own would take much longer to draw.
    height = CELL * sum(map(row_height, rows))
    room = TITLE if of else 0.0
    figure = Figure(figsize=(CELL * COLUMNS, height + room))
    axes: Axes = figure.add_axes((0, 0, 1, height / (height + room)))
    if of:
        figure.suptitle(of[0].upper() + of[1:], fontsize=11, y=1 - 0.1 / (height + room), va="top")
    top = 0.0
    for row in rows:
        bottom, (title, chosen) = top + row_height(row), row
        if title:
            said = "true class; predicted class and its probability"
            axes.text(0.06, top + 0.08, f"{title} ({said})", va="top", fontsize=10)
        for column, index in enumerate(chosen.tolist()):
            draw_image(axes, images[index], extent=(column + 0.06, column + 0.94, bottom - 0.08, bottom - 0.96))
            guess, truth = (shortened(class_names[int(which[index])]) for which in (predicted, labels))
            text = f"{truth}\n{guess}: {float(confidence[index]):.0%}"
            axes.text(column + 0.5, bottom - 1.0, text, ha="center", va="bottom", fontsize=8)
        top = bottom
    axes.set(xlim=(0, COLUMNS), ylim=(top, 0))
    axes.axis("off")
    return figure


def row_height(row: tuple[str, Tensor]) -> float:
    """Of images with two lines of text and perhaps a title, in widths of an image."""
    return 1.55 if row[0] else 1.3
