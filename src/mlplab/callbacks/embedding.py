"""What the last hidden layer makes of validation samples, for TensorBoard's projector."""

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F

from mlplab.callbacks.outputs import activations, probabilities, samples

LARGEST_SPRITE = 32
"""Pixels that an image has at most."""


def write_embedding(board: TensorBoardLogger, pl_module: Any, data: Any, *, num_samples: int) -> None:
    """The activations of the last hidden layer for validation samples, with labels and small images.

    It replaces what an earlier launch of the run has written.
    """
    features, labels = samples(data, "val", most=num_samples)
    hidden = activations(pl_module, data, features).last_hidden
    if hidden is None:
        return
    confidence, predicted = probabilities(pl_module, data, features).max(dim=1)
    names, folder = data.source.class_names, Path(board.log_dir)
    rows = [
        [names[true], names[guess], "yes" if true == guess else "no", f"{sure:.3f}"]
        for true, guess, sure in zip(labels.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
    ]
    (folder / "projector_config.pbtxt").unlink(missing_ok=True)
    shutil.rmtree(folder / "00000", ignore_errors=True)  # where torch puts what belongs to step 0
    board.experiment.add_embedding(
        hidden, metadata=rows, metadata_header=["class", "predicted", "right", "confidence"], tag="last_hidden_layer",
        label_img=sprites(features) if data.source.is_images else None,
    )  # fmt: skip


def sprites(images: Tensor) -> Tensor:
    """uint8 images (n, channels, height, width) as floats from 0 to 1 without opacity, small enough for one sheet."""
    shown = images[:, :3].float() / 255
    largest = max(shown.shape[2:])
    return F.interpolate(shown, scale_factor=LARGEST_SPRITE / largest) if largest > LARGEST_SPRITE else shown
