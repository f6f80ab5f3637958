"""What a network makes of samples, looked at without a trace: no random number is drawn, nothing in it changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

CHUNK = 4000
"""Samples that are computed at once."""
RELU = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}


class Predictions(NamedTuple):
    """Samples of a split as they are stored, with what the network makes of them, on the CPU."""

    features: Tensor  # (n, …)
    labels: Tensor  # (n,)
    probabilities: Tensor  # (n, classes)


@contextmanager
def evaluating(pl_module: pl.LightningModule) -> Iterator[None]:
    """Without gradients, dropout and running statistics; every module's mode is as before afterwards."""
    modules = [module for module in pl_module.modules() if module.training]
    if modules:  # after a validation there are none; to go through all modules would take as long as a small network
        pl_module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in modules:
            module.training = True


def can_look(trainer: pl.Trainer) -> bool:
    """Whether this process may look alone: the only one, or the first of several that each hold the whole network."""
    return trainer.is_global_zero and not isinstance(trainer.strategy, FSDPStrategy)


def samples(data: Any, split: str, *, most: int) -> tuple[Tensor, Tensor]:
    """At most so many samples (n, …) of a split and their labels (n,), evenly spread over it."""
    dataset = data.datasets[split]
    step = max(1, -(-len(dataset) // most))
    indices = dataset.indices[::step]
    return dataset.features[indices], dataset.labels[indices]


def probabilities(pl_module: Any, data: Any, features: Tensor) -> Tensor:
    """Class probabilities (n, classes) of samples as they are stored (n, …)."""
    with evaluating(pl_module):
        parts = [pl_module.probabilities(data.preprocess(part.to(pl_module.device))).float().cpu()
                 for part in features.split(CHUNK)]  # fmt: skip
    return torch.cat(parts)


def predictions(pl_module: Any, data: Any, split: str, *, most: int = 10_000) -> Predictions:
    """Of at most so many samples of a split."""
    features, labels = samples(data, split, most=most)
    return Predictions(features, labels, probabilities(pl_module, data, features))


class Activations(NamedTuple):
    """What happens inside a network on some samples, on the CPU."""

    relus: list[Tensor]  # outputs of the ReLUs in the order they are computed, (n, units) each
    last_hidden: Tensor | None  # what the last linear layer is given (n, units); None where it is the only one


def activations(pl_module: Any, data: Any, features: Tensor) -> Activations:
    """The activations of at most CHUNK samples as they are stored (n, …)."""
    given: list[Tensor] = []
    layers = [module for module in pl_module.network.modules() if isinstance(module, nn.Linear)]
    hooks = [layers[-1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))] if layers[1:] else []
    try:
        with evaluating(pl_module), ReluOutputs() as relus:
            pl_module.network(data.preprocess(features[:CHUNK].to(pl_module.device)))
    finally:
        for hook in hooks:
            hook.remove()
    hidden = given[-1].float().flatten(1).cpu() if given else None
    return Activations([output.cpu() for output in relus.outputs], hidden)


class ReluOutputs(TorchDispatchMode):
    """Keeps the outputs of all ReLUs that are computed meanwhile, modules and functions alike."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        output = function(*arguments, **(options or {}))
        if function in RELU:
            self.outputs.append(output)
        return output
