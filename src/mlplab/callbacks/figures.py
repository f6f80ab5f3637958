"""Figures of a run, as PNG in `figures/` and as images in TensorBoard."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from mlplab.callbacks.base import can_look, look_is_due, measured, probabilities, samples
from mlplab.callbacks.layers import layer_weights
from mlplab.callbacks.tensorboard import log_image
from mlplab.config.keys import require
from mlplab.errors import first_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlplab.figures.boundary import DecisionBoundary

log = logging.getLogger(__name__)

FRAME_RESOLUTION, FINAL_RESOLUTION = 48, 300
"""Points per axis at which the plane of two features is looked at, during training and at the end."""
FRAME_SIZE, FRAME_DPI = 4.2, 80
FIRST_GUESS = 1.0
"""Seconds that a figure may take, before one has been drawn."""


class Figures(Callback):
    """Draw what a run has come to, after training, from training and validation data.

    Of two-feature data the decision boundary is kept after the first epoch, about ten times over the run (in a short
    one less often) and at its end (`every`: "auto", or so many epochs), and drawn as soon as drawing has cost less than
    `max_share` of the time of training, at the latest after it: TensorBoard's slider then steps through training.
    matplotlib is imported when the first figure is drawn. A figure that fails is named in the log, and the run goes on.
    Without `at_end` nothing is drawn after training, which takes a few seconds.
    """

    def __init__(
        self, *, every: int | str = "auto", max_share: float = 0.03, dpi: int = 110, at_end: bool = True
    ) -> None:  # fmt: skip
        require("callbacks.figures.every", every)
        require("callbacks.figures.max_share", max_share)
        require("callbacks.figures.dpi", dpi)
        self.every, self.max_share, self.dpi, self.at_end = every, max_share, dpi, at_end
        self._looked_at: int | None = None
        self._waiting: list[tuple[int, Tensor]] = []  # after so many updates, probabilities in 255ths
        self._grid: Tensor | None = None
        self._boundary: DecisionBoundary | None = None
        self._start, self._spent, self._last_cost = 0.0, 0.0, FIRST_GUESS

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def look_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep the plane of two features where it is time, and draw what waits where there is time."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.feature_shape != (2,) or not can_look(trainer):
            return
        if look_is_due(trainer, self._looked_at, every=self.every):
            self._looked_at = updates = trainer.global_step
            if self._grid is None:
                self._grid = plane_of(data).grid(FRAME_RESOLUTION)
            seen = probabilities(pl_module, data, self._grid)
            self._waiting.append((updates, (255 * seen).round().byte()))
        time_left = self.max_share * (time.perf_counter() - self._start) - self._spent
        if self._waiting and self._last_cost <= time_left:
            self._draw_waiting(trainer, data, most=1)

    on_validation_end = on_train_epoch_end = look_if_due

    def _draw_waiting(self, trainer: pl.Trainer, data: Any, *, most: int | None = None) -> None:
        for updates, seen in self._waiting[:most]:
            start = time.perf_counter()
            self._boundary = self._boundary or boundary(data, size=FRAME_SIZE, dpi=FRAME_DPI)
            frame = self._boundary.frame(seen / 255, title=title(data, updates))
            log_image(trainer.loggers, "figures/decision_boundary", frame, updates=updates)
            self._last_cost = time.perf_counter() - start
            self._spent += self._last_cost
        del self._waiting[:most]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self.at_end:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._waiting = [(updates, seen) for updates, seen in self._waiting if updates != trainer.global_step]
        self._draw_waiting(trainer, data)
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        from mlplab.figures.style import png

        for name, draw in final_figures(trainer, pl_module, data):
            try:
                image = png(draw(), dpi=self.dpi)
            except Exception as error:  # hours of training must not be lost for a picture
                log.warning("figure %s could not be drawn: %s", name, first_line(error))
                continue
            (folder / f"{name}.png").write_bytes(image)
            log_image(trainer.loggers, f"figures/{name}", image, updates=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        frames = torch.stack([seen for _, seen in self._waiting]) if self._waiting else None  # one is saved faster
        return {"looked_at": self._looked_at, "waiting": [updates for updates, _ in self._waiting], "frames": frames}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._looked_at = state_dict["looked_at"]
        self._waiting = (
            list(zip(state_dict["waiting"], state_dict["frames"], strict=True)) if state_dict["waiting"] else []
        )


Draw = Callable[[], "Figure"]


def final_figures(trainer: pl.Trainer, pl_module: Any, data: Any) -> Iterator[tuple[str, Draw]]:
    """The figures that can be drawn of this run: name, and the function that draws it."""
    from mlplab.figures import learning, network

    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if rows := measured(trainer).history:
        best, early = best_epoch(callbacks, rows), stopped_early(callbacks)
        yield "learning_curves", partial(learning.learning_curves, rows, best_epoch=best, stopped_early=early)
        yield "optimization", partial(learning.optimization, rows)
    if layers := measured(trainer).layers:
        yield "layers", partial(network.layers, layers)
    if can_look(trainer):
        when = end_of_training(data, trainer.global_step)
        yield "weights", lambda: network.weight_histograms(layer_weights(pl_module.network), when=f", {when}")
        if data.feature_shape == (2,):
            seen = probabilities(pl_module, data, plane_of(data).grid(FINAL_RESOLUTION))
            large = boundary(data, size=5.4, dpi=110)
            yield "decision_boundary", partial(large.draw, seen, title=title(data, trainer.global_step))
        if data.source.is_images:
            yield from image_figures(pl_module, data, when=when)
        if len(data.datasets["val"]):
            yield from validation_figures(pl_module, data, when=when)


def image_figures(pl_module: Any, data: Any, *, when: str) -> Iterator[tuple[str, Draw]]:
    """Of image data: training samples as the network sees them, and what its first layer looks for."""
    from mlplab.figures import images, network

    yield "training_samples", lambda: images.training_samples(data)
    linear = [module for module in pl_module.network.modules() if isinstance(module, nn.Linear)]
    if linear and linear[0].in_features == data.num_features:
        weight = linear[0].weight.detach()
        names = data.source.class_names if len(weight) == data.num_classes and len(linear) == 1 else ()
        shape = data.feature_shape
        yield "first_layer", lambda: network.first_layer(weight, shape=shape, unit_names=names, when=f", {when}")


def validation_figures(pl_module: Any, data: Any, *, when: str) -> Iterator[tuple[str, Draw]]:
    """How well the classes of the validation samples are told apart."""
    from mlplab.figures import classification, images

    features, labels = samples(data, "val", most=10_000)
    seen = probabilities(pl_module, data, features)
    said: dict[str, Any] = {"of": f"{of_all(len(labels), len(data.datasets['val']))} validation samples, {when}"}
    named = {"class_names": data.source.class_names, **said}
    yield "confusion", lambda: classification.confusion(seen, labels, **named)
    if data.source.is_images:
        yield "extremes", lambda: images.extremes(features, labels, seen, **named)
    if classification.is_graded(seen):
        yield "calibration", lambda: classification.calibration(seen, labels, **said)
        if data.num_classes == 2 and classification.has_both_classes(labels):
            yield "precision_recall", lambda: classification.precision_recall(seen, labels, **named)


def boundary(data: Any, *, size: float, dpi: int) -> "DecisionBoundary":
    """The figure of the decision boundary, without it as yet."""
    from mlplab.figures.boundary import DecisionBoundary

    samples = {
        label: (data.source.features[indices], data.source.labels[indices])
        for split, label in (("train", "training"), ("val", "validation"))
        if len(indices := data.datasets[split].indices)
    }
    axis_names = data.source.feature_names or ("x₁", "x₂")
    names = data.source.class_names
    return DecisionBoundary(
        plane_of(data), samples=samples, class_names=names, axis_names=axis_names, size=size, dpi=dpi
    )  # fmt: skip


def title(data: Any, updates: int) -> str:
    """What stands above the decision boundary after so many updates."""
    return f"Decision boundary after epoch {updates / data.updates_per_epoch:g}"


def end_of_training(data: Any, updates: int) -> str:
    """The moment of all figures but the curves: the network as it is in the end, not the best checkpoint."""
    return f"at the end of training (epoch {updates / data.updates_per_epoch:g})"


def of_all(number: int, among: int) -> str:
    """How many samples were looked at."""
    return f"{number:,}" if number == among else f"{number:,} of {among:,}"


def plane_of(data: Any) -> Any:
    """The plane that holds all samples of two-feature data."""
    from mlplab.figures.plane import Plane

    return Plane.around(data.source.features)


def best_epoch(callbacks: list[Callback], rows: list[dict[str, float | None]]) -> float | None:
    """The epoch of the checkpoint that is kept as the best; None where nothing of history.csv chooses it."""
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            known = [(value, row["epoch"]) for row in rows if (value := row.get(callback.monitor)) is not None]
            best = (min if callback.mode == "min" else max)(known, key=lambda pair: pair[0], default=(None, None))
            return best[1]
    return None


def stopped_early(callbacks: list[Callback]) -> bool:
    """Whether early stopping has ended the run."""
    return any(isinstance(callback, EarlyStopping) and callback.stopped_epoch > 0 for callback in callbacks)
