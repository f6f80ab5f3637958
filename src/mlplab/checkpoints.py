"""Checkpoint files, read back safely."""

import pickle
from pathlib import Path
from typing import Any

import torch

from mlplab.checks import ConfigError, first_line


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: plain data only, never code. Raises ConfigError when the file is damaged."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path} is damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(checkpoint, dict):
        raise ConfigError(f"{path} is not a checkpoint")
    return checkpoint


def load_weights(model: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights into the model; gives the whole checkpoint. Raises ConfigError if they do not fit."""
    checkpoint = read_checkpoint(path)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} does not fit the network of its run folder's config.yaml: was either replaced? "
            f"({str(error).splitlines()[-1].strip()})"
        ) from error
    return checkpoint
