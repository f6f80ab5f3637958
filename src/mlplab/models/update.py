"""Updates of the weights, one operation after the other: forward → loss → backward → step."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mlplab.data.loader import Batch

Updates = Callable[[Sequence[Batch], Sequence[float]], tuple[list[Tensor], list[Tensor]]]
"""Performs one update for each batch, with the learning rate times the factor given for it.

Gives the batches' mean losses () and logits (batch, outputs), each of before its update.
"""


def eager_updates(
    network: nn.Module, loss: nn.Module, optimizer: Any, *, backward: Callable[[Tensor], Any], clip_norm: float | None
) -> Updates:  # fmt: skip
    """Updates as they are written by hand, one operation after the other.

    `backward` computes the gradients of a loss; `clip_norm` limits their L2 norm.
    """
    parameters, step = list(network.parameters()), bare_step(optimizer)

    def updates(batches: Sequence[Batch], factors: Sequence[float]) -> tuple[list[Tensor], list[Tensor]]:
        losses, all_logits = [], []
        for batch, factor in zip(batches, factors, strict=True):
            set_learning_rate(optimizer, factor)
            logits = network(batch.features)
            batch_loss = loss(logits, batch.labels)
            for parameter in parameters:
                parameter.grad = None
            backward(batch_loss if batch.weight == 1 else batch_loss * batch.weight)
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            step()
            losses.append(batch_loss.detach())
            all_logits.append(logits.detach())
        return losses, all_logits

    return updates


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def set_learning_rate(optimizer: Any, factor: float) -> None:
    """Set every parameter group's learning rate to `factor` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def bare_step(optimizer: Any) -> Callable[[], Any]:
    """The optimizer's step without the frame for profiling and hooks around it, which costs a tenth of a small update.

    Anything but one of torch's own optimizers, without hooks, keeps its own `step`.
    """
    is_torchs = type(optimizer).__module__.startswith("torch.optim.") and "step" not in vars(optimizer)
    if not is_torchs or has_hooks(optimizer):
        return optimizer.step
    return torch.no_grad()(functools.partial(inspect.unwrap(type(optimizer).step), optimizer))


def has_hooks(optimizer: Optimizer) -> bool:
    """Whether something is to happen before or after each step."""
    return any(getattr(optimizer, f"_optimizer_step_{when}_hooks", True) for when in ("pre", "post"))


def is_watched(weight: nn.Parameter) -> bool:
    """Whether something is to see, or to change, each gradient of this weight."""
    return bool(weight._backward_hooks or weight._post_accumulate_grad_hooks)
