"""What callbacks share: where they leave what they measured, when a look is due, and how to look without a trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mlplab.models.loops import planned_updates

Row = dict[str, float | None]

SPACING, EPOCH_END = 400, 30
"""A look at a network takes as long as about 10 updates, so looks are this many apart; the end of an epoch, with its
validation and checkpoints, counts as so many updates (measured with small networks on CPUs)."""

CHUNK = 4000
"""Samples that are computed at once."""

RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


@dataclass
class Measured:
    """What the callbacks of a run have measured, for each other, for history.csv and for result.json."""

    history: list[Row] = field(default_factory=list)  # the rows of history.csv
    layers: list[Row] = field(default_factory=list)  # one for each look at the layers
    latest: dict[str, float | None] = field(default_factory=dict)  # since the history's last row; None: not yet
    looks: list[str] = field(default_factory=list)  # times at which this launch evaluated the test set while training
    stop_reason: str | None = None  # why a callback has ended training, in words
    seconds_before: float = 0.0  # of training, in earlier launches of this run
    started: float = field(default_factory=time.perf_counter)  # this launch
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Training time of all launches so far; it stands still when training has ended."""
        return self.seconds_before + (self.ended or time.perf_counter()) - self.started


def measured(trainer: pl.Trainer) -> Measured:
    """What has been measured in the run of this Trainer."""
    return trainer.__dict__.setdefault("measured", Measured())


# When


def stopped_early(trainer: Any) -> Any:
    """The callback for early stopping that has asked for the end of training, None where none has."""
    reasons = ((callback.stopping_reason, callback) for callback in trainer.early_stopping_callbacks)
    return next((callback for reason, callback in reasons if reason != EarlyStoppingReason.NOT_STOPPED), None)


def look_is_due(trainer: Any, last: int | None, *, every: int | str) -> bool:
    """Whether to look at the network now, when it was last looked at after so many updates (None: not yet).

    The first time is due at once; then after every so many epochs, or with "auto" ten times over the run, fewer in a
    short one, at least three.
    """
    if last is None:
        return True
    count, total = 10, planned_updates(trainer)
    if total:
        effort = total * (1 + EPOCH_END / trainer.datamodule.updates_per_epoch)
        count = max(3, min(count, int(effort / SPACING)))
    before, now = (moments_passed(trainer, at, every=every, count=count) for at in (last, trainer.global_step))
    return before < now


def moments_passed(trainer: Any, updates: int, *, every: int | str = "auto", count: int = 10) -> int:
    """How many moments lie at or before so many updates.

    They are `every` epochs apart; with "auto" they divide the planned updates into `count` parts, and where no end is
    planned they are after 1, 2, 4, 8, … updates.
    """
    if isinstance(every, int):
        return updates // (every * trainer.datamodule.updates_per_epoch)
    total = planned_updates(trainer)
    return updates * count // total if total else updates.bit_length()


# Without a trace: no random number is drawn, nothing in the network changes


def can_look(trainer: pl.Trainer) -> bool:
    """Whether this process may look alone: the only one, or the first of several that each hold the whole network."""
    return trainer.is_global_zero and not isinstance(trainer.strategy, FSDPStrategy)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Without gradients, dropout and running statistics; every module's mode is as before afterwards."""
    modules = [module for module in network.modules() if module.training]
    if modules:  # after a validation there are none; to go through all modules would take as long as a small network
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in modules:
            module.training = True


def samples(data: Any, split: str, *, most: int) -> tuple[Tensor, Tensor]:
    """At most so many samples (n, …) of a split, as they are stored, and their labels (n,), evenly spread over it."""
    dataset = data.datasets[split]
    indices = dataset.indices[:: max(1, -(-len(dataset) // most))]
    return dataset.features[indices], dataset.labels[indices]


def probabilities(pl_module: Any, data: Any, features: Tensor) -> Tensor:
    """Class probabilities (n, classes), on the CPU, of samples as they are stored (n, …)."""
    with evaluating(pl_module):
        parts = [pl_module.probabilities(data.preprocess(part.to(pl_module.device))).float().cpu()
                 for part in features.split(CHUNK)]  # fmt: skip
    return torch.cat(parts)


def activations(pl_module: Any, data: Any, features: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """What happens inside the network on at most CHUNK samples as they are stored (n, …), on the CPU.

    The outputs of the ReLUs (n, units) in the order they are computed; and what the last linear layer is given
    (n, units), None where it is the only one.
    """
    with evaluating(pl_module), Watching() as seen:
        pl_module.network(data.preprocess(features[:CHUNK].to(pl_module.device)))
    hidden = seen.linear_inputs[-1].float().flatten(1).cpu() if seen.linear_inputs[1:] else None
    return [output.cpu() for output in seen.relus], hidden


class Watching(TorchFunctionMode):
    """Keeps the outputs of ReLUs and the inputs of linear maps computed meanwhile, modules and functions alike."""

    def __init__(self) -> None:
        super().__init__()
        self.relus: list[Tensor] = []
        self.linear_inputs: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        output = function(*arguments, **(options or {}))
        if function in RELUS and output.ndim > 1:
            self.relus.append(output)
        elif function is F.linear:
            self.linear_inputs.append(arguments[0] if arguments else options["input"])
        return output
