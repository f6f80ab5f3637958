"""Figures of a run, as PNG in `figures/` and as images in TensorBoard."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn

from mlplab.callbacks.base import can_look, look_is_due, measured, probabilities, samples, stopped_early
from mlplab.callbacks.layers import layer_weights
from mlplab.callbacks.tensorboard import boards, tolerated
from mlplab.config.keys import require
from mlplab.models.images import CosineTransform
from mlplab.models.loops import may_stop

if TYPE_CHECKING:  # matplotlib is imported after training
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]
FRAME_RESOLUTION, FINAL_RESOLUTION = 48, 300
"""Points per axis at which the plane of two features is looked at, during training and at the end."""
FRAME_DPI = 67


class Figures(Callback):
    """Draw what a run has come to, after training, from training and validation data.

    Of two-feature data, class probabilities over the plane are kept after the first epoch, about ten times over the run
    (in a short one less often) and at its end (`every`: "auto", or so many epochs). Drawn after training, they are what
    TensorBoard's slider steps through, and a short film. A figure that fails is named in the log, and the run goes on.
    Without `at_end` nothing is looked at or drawn. `max_share` does nothing: earlier runs have it.
    """

    def __init__(
        self, *, every: int | str = "auto", dpi: int = 110, at_end: bool = True, max_share: float | None = None
    ) -> None:  # fmt: skip
        require("callbacks.figures.every", every)
        require("callbacks.figures.dpi", dpi)
        self.every, self.dpi, self.at_end = every, dpi, at_end
        self._looks: list[tuple[int, Tensor]] = []  # after so many updates, probabilities in 255ths

    def look_if_due(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Keep what the network makes of the plane of two features where it is time."""
        data = trainer.datamodule
        if not self.at_end or data.feature_shape != (2,) or not can_look(trainer):
            return
        if look_is_due(trainer, self._looks[-1][0] if self._looks else None, every=self.every):
            with tolerated("the decision boundary"):
                seen = probabilities(pl_module, data, plane(data.source.features, FRAME_RESOLUTION))
                self._looks.append((trainer.global_step, (255 * seen).round().byte()))

    on_validation_end = on_train_epoch_end = look_if_due

    def on_fit_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.at_end:
            with tolerated("figures"):
                self._draw(trainer, pl_module)

    def _draw(self, trainer: Any, pl_module: Any) -> None:
        """All figures, in their folder and in TensorBoard."""
        from mlplab.figures.boundary import decision_boundary
        from mlplab.figures.style import as_film

        data, folder = trainer.datamodule, Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        frames = []
        for updates, seen in self._looks:
            points = plane(data.source.features, FRAME_RESOLUTION)
            draw: Draw = partial(decision_boundary, points, seen / 255, data, updates=updates)
            if image := drawn("decision_boundary", draw, dpi=FRAME_DPI):
                frames.append(image)
                if updates != trainer.global_step:
                    show(trainer, "decision_boundary", image, updates=updates)
        if len(frames) > 1:
            with tolerated("film of the decision boundary"):
                (folder / "decision_boundary.webp").write_bytes(as_film(frames))
        for name, final in final_figures(trainer, pl_module, data):
            if image := drawn(name, final, dpi=self.dpi):
                show(trainer, name, image, updates=trainer.global_step)
                (folder / f"{name}.png").write_bytes(image)

    def state_dict(self) -> dict[str, Any]:
        frames = torch.stack([seen for _, seen in self._looks]) if self._looks else None  # one is saved faster
        return {"waiting": [updates for updates, _ in self._looks], "frames": frames}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        waiting, frames = state_dict["waiting"], state_dict["frames"]
        self._looks = list(zip(waiting, frames, strict=True)) if waiting else []


def plane(features: Tensor, resolution: int) -> Tensor:
    """Points (resolution², 2) between the ends of features (n, 2) with a margin, row by row from the bottom."""
    low, high = torch.aminmax(features, dim=0)
    room = 0.05 * torch.where(high > low, high - low, 1.0)
    ends = torch.stack([low - room, high + room], dim=1).tolist()
    x, y = (torch.linspace(first, last, resolution) for first, last in ends)
    return torch.cartesian_prod(y, x).flip(1)


def drawn(name: str, draw: Draw, *, dpi: int) -> bytes | None:
    """A figure as the content of a PNG file; None where it could not be drawn."""
    from mlplab.figures.style import as_png

    with tolerated(f"figure {name}"):
        return as_png(draw, dpi=dpi)
    return None


def show(trainer: pl.Trainer, name: str, image: bytes, *, updates: int) -> None:
    """Show a figure, the content of a PNG file, in TensorBoard."""
    width, height = (int.from_bytes(image[place : place + 4]) for place in (16, 20))
    shown = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=image)
    for board in boards(trainer.loggers):
        summary = Summary(value=[Summary.Value(tag=f"figures/{name}", image=shown)])
        board.experiment.file_writer.add_summary(summary, updates)


def final_figures(trainer: pl.Trainer, pl_module: Any, data: Any) -> Iterator[tuple[str, Draw]]:
    """The figures that can be drawn of this run: name, and the function that draws it."""
    from mlplab.figures import curves
    from mlplab.figures.boundary import decision_boundary

    if rows := measured(trainer).history:
        best_after = getattr(trainer.checkpoint_callback, "best_after", None)
        best = best_after and best_after / data.updates_per_epoch
        early = stopped_early(trainer) is not None and may_stop(trainer)
        yield "learning_curves", partial(curves.learning_curves, rows, best_epoch=best, stopped_early=early)
        yield "optimization", partial(curves.optimization, rows)
    if rows := measured(trainer).layers:
        yield "layers", partial(curves.layers, rows)
    if can_look(trainer):
        when = f"at the end of training (epoch {trainer.global_step / data.updates_per_epoch:g})"  # not the best one
        yield "weights", lambda: curves.weight_histograms(layer_weights(pl_module.network), when=when)
        if data.feature_shape == (2,):
            points = plane(data.source.features, FINAL_RESOLUTION)
            seen = probabilities(pl_module, data, points)
            yield "decision_boundary", partial(decision_boundary, points, seen, data, updates=trainer.global_step)
        if data.source.is_images:
            yield from image_figures(pl_module, data, when=when)
        if len(data.datasets["val"]):
            yield from validation_figures(pl_module, data, when=when)


def image_figures(pl_module: Any, data: Any, *, when: str) -> Iterator[tuple[str, Draw]]:
    """Of image data: training samples as the network sees them, and what its first layer looks for."""
    from mlplab.figures import images

    yield "training_samples", partial(images.training_samples, data)
    linear = [module for module in pl_module.network.modules() if isinstance(module, nn.Linear)]
    transform = next((one for one in pl_module.network.modules() if isinstance(one, CosineTransform)), None)
    if linear and linear[0].in_features == (transform or data).num_features:
        weight, shape = linear[0].weight.detach().float(), data.feature_shape
        if transform is not None:
            weight = transform.inverse(weight, shape).flatten(1)
        names = data.source.class_names if len(weight) == data.num_classes and len(linear) == 1 else ()
        yield "first_layer", partial(images.first_layer, weight, shape=shape, unit_names=names, when=when)


def validation_figures(pl_module: Any, data: Any, *, when: str) -> Iterator[tuple[str, Draw]]:
    """How well the classes of the validation samples are told apart."""
    from mlplab.figures import classification, images

    features, labels = samples(data, "val", most=10_000)
    seen = probabilities(pl_module, data, features)
    of = f"{len(labels):,} of {len(data.datasets['val']):,} validation samples, {when}"
    named: dict[str, Any] = {"class_names": data.source.class_names, "of": of}
    yield "confusion", partial(classification.confusion, seen, labels, **named)
    if data.source.is_images:
        yield "extremes", partial(images.extremes, features, labels, seen, **named)
    if ((seen > 0) & (seen < 1)).any():  # those of a perceptron do not say how sure it is
        yield "calibration", partial(classification.calibration, seen, labels, of=of)
        if data.num_classes == 2 and len(labels.unique()) == 2:
            yield "precision_recall", partial(classification.precision_recall, seen, labels, **named)
