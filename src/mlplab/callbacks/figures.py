"""Figures of a run, as PNG in `figures/` and as images in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from mlplab.callbacks.history import History, Row
from mlplab.callbacks.tensorboard import boards

TRAIN_COLOUR, VAL_COLOUR = "#0072B2", "#D55E00"  # Okabe & Ito: told apart by colour-blind readers too


class Figures(Callback):
    """At the end of training: the learning curves, and for two features the decision boundary."""

    def __init__(self, *, dpi: int = 110) -> None:
        self.dpi = dpi

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        figures = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, History) and callback.rows:
                figures["learning_curves"] = learning_curves(callback.rows)
        if data.feature_shape == (2,):
            figures["decision_boundary"] = decision_boundary(pl_module, data)
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=self.dpi)
            for board in boards(trainer.loggers):
                board.experiment.add_figure(name, figure, global_step=trainer.global_step)


def learning_curves(rows: Sequence[Row]) -> Figure:
    """Loss and accuracy of training and validation over the epochs, with the epoch of the best validation accuracy."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", "acc"), ("Loss", "Accuracy"), strict=True):
        for split, label, colour in (("train", "training", TRAIN_COLOUR), ("val", "validation", VAL_COLOUR)):
            known = [row for row in rows if row[f"{split}/{name}"] is not None]
            if known:
                epochs, values = ([row[column] for row in known] for column in ("epoch", f"{split}/{name}"))
                axes.plot(epochs, values, color=colour, label=label, marker="." if len(rows) < 10 else None)
        axes.set(title=title, xlabel="epoch", ylabel=title.lower())
        validated = [row for row in rows if row["val/acc"] is not None]
        if validated:
            best = max(validated, key=lambda row: row["val/acc"] or 0.0)
            axes.axvline(best["epoch"], color="grey", linestyle=":", label="best validation accuracy")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def decision_boundary(pl_module: Any, data: Any, *, resolution: int = 200) -> Figure:
    """The predicted class's probability over the plane of two features, with training and validation samples."""
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    features = data.source.features
    low, high = features.amin(dim=0), features.amax(dim=0)
    margin = 0.05 * (high - low)
    grid_x, grid_y = (
        torch.linspace(float(low[axis] - margin[axis]), float(high[axis] + margin[axis]), resolution) for axis in (0, 1)
    )
    plane = torch.cartesian_prod(grid_x, grid_y)  # (resolution², 2), x varies slowest
    was_training = pl_module.training
    pl_module.eval()
    with torch.no_grad():
        probabilities = (
            pl_module.probabilities(data.preprocess(plane).to(pl_module.device))
            .cpu()
            .reshape(resolution, resolution, -1)
        )
    pl_module.train(was_training)
    extent = (float(grid_x[0]), float(grid_x[-1]), float(grid_y[0]), float(grid_y[-1]))
    place: dict[str, Any] = {"extent": extent, "origin": "lower", "aspect": "auto"}
    if data.num_classes == 2:
        colours: dict[str, Any] = {"cmap": "RdBu_r", "vmin": 0, "vmax": 1}
        image = axes.imshow(probabilities[..., 1].T.numpy(), alpha=0.7, **place, **colours)
        figure.colorbar(image, label=f"probability of “{data.source.class_names[1]}”")
    else:
        colours = {"cmap": "tab10", "vmin": 0, "vmax": 9}
        axes.imshow(probabilities.argmax(dim=2).T.numpy(), alpha=0.35, interpolation="nearest", **place, **colours)
    for split, marker, label in (("train", "o", "training"), ("val", "^", "validation")):
        indices = data.datasets[split].indices
        points, labels = features[indices].numpy(), data.source.labels[indices].numpy()
        axes.scatter(
            points[:, 0],
            points[:, 1],
            c=labels,
            marker=marker,
            s=14,
            edgecolor="black",
            linewidth=0.4,
            label=label,
            **colours,
        )
    names = data.source.feature_names or ("x₁", "x₂")
    axes.set(xlabel=names[0], ylabel=names[1], title="Decision boundary", xlim=extent[:2], ylim=extent[2:])
    axes.legend(loc="upper right", framealpha=0.9)
    return figure
