"""Figures of images: training samples, those that a network gets most wrong, and what its first layer looks for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.utils import make_grid

from mlplab.figures.style import shortened

ROWS, COLUMNS, MOST_UNITS = 4, 8, 64
TEXT = 0.17
"""Height of a line of text, in inches."""
Sections = Mapping[str, tuple[Tensor, Sequence[str]]]
"""Heading, which may be empty → uint8 images (n, channels, height, width), and a text above each."""


def image_grid(sections: Sections, *, title: str, width: float = 1.2) -> Figure:
    """Images side by side, `width` inches each: grey, RGB, or RGB with opacity. Sections without images are left out.

    Those of a section are drawn as one: axes of their own would take much longer.
    """
    parts = {heading: part for heading, part in sections.items() if len(part[0])}
    images, captions = next(iter(parts.values()))
    height, pixels = images.shape[2:]
    gap = max(1, pixels // 12)
    above = gap + round(TEXT * pixels / width * max(text.count("\n") + bool(text) for text in captions))
    rows = [-(-len(images) // COLUMNS) for images, _ in parts.values()]
    inches = width * (above + height + gap) / (pixels + 2 * gap) * sum(rows)
    inches += TEXT * (2 + title.count("\n") + 2 * sum(map(bool, parts)))
    figure = Figure(figsize=(width * COLUMNS, inches), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(len(parts), 1, height_ratios=rows, squeeze=False)[:, 0]
    for axes, (heading, (images, captions)) in zip(panels, parts.items(), strict=True):
        shown = images if images.shape[1] in (3, 4) else images[:, :1]
        padded = nn.functional.pad(shown, (gap, gap, above, gap), value=255)
        picture = make_grid(padded, nrow=COLUMNS, padding=0, pad_value=255)
        axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(heading, loc="left", fontsize=10, fontweight="normal")
        axes.axis("off")
        for index, caption in enumerate(captions):
            row, column = divmod(index, COLUMNS)
            x, y = (column + 0.5) * padded.shape[3], row * padded.shape[2] + above - 0.5
            axes.text(x, y, caption, ha="center", va="bottom", fontsize=8)
    return figure


def training_samples(data: Any) -> Figure:
    """The first samples of the first epoch of a DataModule with images; if it augments, as they are in each epoch."""
    train = data.datasets["train"]
    epochs = range(COLUMNS - 1 if data.augmentation else 0)
    positions = data.train_dataloader().batch_sampler.sampler.order()[: ROWS * COLUMNS // (1 + len(epochs))]
    indices = train.indices[positions]
    versions = [train.features[indices], *(data.augmented(positions, epoch=epoch) for epoch in epochs)]
    names = [shortened(data.source.class_names[label]) for label in train.labels[indices]]
    captions = [text for name in names for text in (name, *(f"in epoch {epoch + 1}" for epoch in epochs))]
    title = "Training samples as stored, and as they are augmented" if epochs else "Training samples"
    return image_grid({"": (torch.stack(versions, dim=1).flatten(0, 1), captions)}, title=title)


def extremes(images: Tensor, labels: Tensor, probabilities: Tensor, *, class_names: Sequence[str], of: str) -> Figure:
    """The most confident mistakes, and the least certain hits, with their true and predicted classes.

    uint8 `images` (n, channels, height, width), `labels` (n,), `probabilities` (n, classes); `of` says which
    samples they are, and at which moment.
    """
    confidence, predicted = probabilities.max(dim=1)
    wrong, right = (predicted != labels).nonzero()[:, 0], (predicted == labels).nonzero()[:, 0]
    mistakes = wrong[confidence[wrong].argsort(descending=True, stable=True)][: 2 * COLUMNS]
    hits = right[confidence[right].argsort(stable=True)][:COLUMNS]
    names = [shortened(name) for name in class_names]
    sections = {}
    for heading, chosen in ((f"most confident of {len(wrong):,} mistakes", mistakes),
                            (f"least certain of {len(right):,} hits", hits)):  # fmt: skip
        captions = [f"{names[labels[i]]}\n{names[predicted[i]]}: {float(confidence[i]):.0%}" for i in chosen]
        sections[f"The {heading} (true class; predicted class and its probability)"] = images[chosen], captions
    return image_grid(sections, title=of[0].upper() + of[1:])


def first_layer(weights: Tensor, *, shape: Sequence[int], unit_names: Sequence[str] = (), when: str) -> Figure:
    """The weights of the first layer's units (units, features) as images of `shape` (channels, height, width).

    Colour images have grey for 0; of others the first channel is shown. Of many units without names those with the
    largest norms are shown. Each image has its own scale. `when` says in the title at which moment.
    """
    chosen = weights if unit_names else weights[weights.norm(dim=1).argsort(descending=True)[:MOST_UNITS]]
    images = chosen.unflatten(1, tuple(shape)).float().cpu()
    images = 0.5 + 0.5 * images / images.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    scale = "grey: weight 0, bright: positive"
    if shape[0] != 3:
        images = torch.from_numpy(colormaps["RdBu_r"](images[:, 0].numpy())).permute(0, 3, 1, 2)
        scale = "white: weight 0, blue: negative, red: positive"
    names = [shortened(name) for name in unit_names] or [""] * len(images)
    more = f" ({len(chosen)} of {len(weights)} units, the largest)" if len(chosen) < len(weights) else ""
    title = f"What the first layer looks for{more}\n{when}\n{scale}"  # the figure may be narrow
    return image_grid({"": ((255 * images).byte(), names)}, title=title, width=1.2 if unit_names else 0.75)
