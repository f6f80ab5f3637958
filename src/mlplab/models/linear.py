"""Updates of large networks on a CPU: faster products, and plain SGD without the gradient of a weight matrix in memory.

`torch.ops.mkldnn._linear_pointwise` has no public name: the product of oneDNN, which torch's compiler calls as well.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from mlplab.data.loader import Batch
from mlplab.models.update import Updates, bare_step, eager_updates, has_hooks, is_watched, set_learning_rate, trainable

LARGE = 2**22
"""Multiplications from which a product is oneDNN's, with at least FEWEST_ROWS samples. Where vectors have 512 bits and
torch's own library (MKL) does not use them, as on AMD's processors, it takes half as long; elsewhere as long."""
FEWEST_ROWS = 8
MANY_ROWS = 256
"""Samples from which the gradient of a weight matrix is kept in memory: to write it takes little beside computing it,
which is not done again then for those who look at it."""
HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left (n, inner) × right (m, inner) transposed → (n, m), by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")


def is_large(inputs: Tensor, weight: Tensor) -> bool:
    """Whether the product of inputs (n, in) and weight (out, in) is for oneDNN, with those of its gradients."""
    rows = len(inputs)
    return HAS_ONEDNN and rows >= FEWEST_ROWS and rows * weight.numel() >= LARGE and inputs.dtype == torch.float32


class Product(torch.autograd.Function):
    """inputs (n, in) × weight (out, in) transposed → (n, out), by oneDNN, and so are its gradients."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(inputs, weight)
        return product(inputs, weight)

    @staticmethod
    def backward(context: Any, errors: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (inputs, weight), (of_inputs, of_weight) = context.saved_tensors, context.needs_input_grad
        return (
            product(errors, weight.t()) if of_inputs else None,
            product(errors.t(), inputs.t()) if of_weight else None,
        )


class Call(NamedTuple):
    """One use of a linear layer: its weight, what it was given (n, in), and made of it (n, out) before the bias."""

    weight: Tensor
    inputs: Tensor
    outputs: Tensor
    version: int  # of the inputs, which nobody may change before the weight is


@contextmanager
def fast_layers(network: nn.Module, calls: list[Call] | None = None) -> Iterator[None]:
    """Meanwhile linear layers compute large products by oneDNN; with `calls` they note each, for `descend`."""

    def forward(layer: nn.Linear, input: Tensor) -> Tensor:
        weight, bias = layer.weight, layer.bias
        # A weight that is computed, as weight_norm and functional_call do, is not what is trained.
        is_ordinary = isinstance(weight, nn.Parameter) and torch.is_grad_enabled()
        if input.ndim != 2 or not is_ordinary or torch.is_autocast_enabled(input.device.type):
            return F.linear(input, weight, bias)
        used = weight if calls is None else weight.detach()  # descend does without its gradient
        outputs = Product.apply(input, used) if is_large(input, used) else F.linear(input, used)
        if calls is not None:
            calls.append(Call(weight, input, outputs.requires_grad_(), input._version))
        return outputs + bias  # another tensor, which the network may change in place

    modules = [module for module in network.modules() if type(module) is nn.Linear and "forward" not in vars(module)]
    layers = [layer for layer in modules if layer.bias is not None and layer.weight.requires_grad]
    for layer in layers:
        layer.forward = functools.partial(forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@torch.no_grad()
def descend(
    calls: Sequence[Call], errors: Sequence[Tensor | None], *, rate: float, decay: float, keep: bool
) -> None:  # fmt: skip
    """W ← (1 − rate · decay) W − rate · errorsᵀ inputs, in place, for each call's weight.

    `errors` (n, out) are the gradients with respect to the outputs. With `keep` the weights get theirs as well. Weights
    that have one, since something else than these calls uses them, have been decayed before.
    """
    factors = {call.weight: 1 - rate * decay for call in calls if call.weight.grad is None}
    for (weight, inputs, _, version), error in zip(calls, errors, strict=True):
        if error is None:  # the loss does not depend on it
            continue
        if inputs._version != version:
            raise RuntimeError("the input of a linear layer was changed in place before the weights were updated")
        factor = factors.pop(weight, 1.0)
        gradient = None
        if is_large(inputs, weight):
            gradient = product(error.t(), inputs.t())
        elif len(inputs) >= MANY_ROWS:
            gradient = error.t() @ inputs
        if gradient is None:
            weight.addmm_(error.t(), inputs, beta=factor, alpha=-rate)
        else:
            (weight if factor == 1 else weight.mul_(factor)).add_(gradient, alpha=-rate)
        if keep:
            gradient = error.t() @ inputs if gradient is None else gradient
            weight.grad = gradient if weight.grad is None else weight.grad + gradient


def fast_updates(network: nn.Module, loss: nn.Module, optimizer: Any, *, clip_norm: float | None) -> Updates:
    """Updates as `eager_updates` makes them, but for rounding, with `fast_layers`.

    Plain SGD changes the weights of linear layers by `descend`; biases and other parameters are changed by the
    optimizer's own step. The gradients of the last batch are left in `parameter.grad`.
    """
    if not is_plain_sgd(optimizer) or clip_norm is not None or any(map(is_watched, network.parameters())):
        eager = eager_updates(network, loss, optimizer, backward=Tensor.backward, clip_norm=clip_norm)
        return fast_layers(network)(eager)
    step, group = bare_step(optimizer), optimizer.param_groups[0]
    calls: list[Call] = []

    @fast_layers(network, calls)
    def updates(batches: Sequence[Batch], factors: Sequence[float]) -> tuple[list[Tensor], list[Tensor]]:
        losses: list[Tensor] = []
        all_logits: list[Tensor] = []
        parameters = trainable(network)
        for batch, factor in zip(batches, factors, strict=True):
            set_learning_rate(optimizer, factor)
            logits = network(batch.features)
            batch_loss = loss(logits, batch.labels)
            made = tuple(calls)  # where parts of the forward pass are repeated in the backward pass, calls grow
            wanted = [*(call.outputs for call in made), *parameters]
            found = torch.autograd.grad(batch_loss, wanted, allow_unused=True)
            for parameter, gradient in zip(parameters, found[len(made) :], strict=True):
                parameter.grad = gradient
            step()
            is_last = len(losses) + 1 == len(batches)
            descend(made, found[: len(made)], rate=group["lr"], decay=group["weight_decay"], keep=is_last)
            calls.clear()
            losses.append(batch_loss.detach())
            all_logits.append(logits.detach())
        return losses, all_logits

    return updates


def is_plain_sgd(optimizer: Optimizer) -> bool:
    """Whether an update of this optimizer is the learning rate times the gradient and the decay, no more."""
    group, unusual = optimizer.param_groups[0], ("momentum", "maximize")
    is_alone = len(optimizer.param_groups) == 1 and not has_hooks(optimizer)  # which look at the weights after a step
    return type(optimizer) is SGD and is_alone and not any(map(group.get, unusual))
