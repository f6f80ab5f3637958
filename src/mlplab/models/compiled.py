"""The same updates as compiled graphs: forward, loss, backward and the optimizer's step in one call.

All that mlplab knows of how torch compiles is here. What has no public name: `torch._dynamo.mark_static_address` (CUDA
graphs need state that stays where it is in memory), `torch._dynamo.config.trace_autograd_ops` (gradients as part of a
graph) and `torch._dynamo.exc.TorchDynamoException` (raised while compiling, before anything is computed).
"""

import functools
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from mlplab.data.loader import Batch
from mlplab.errors import first_line
from mlplab.models.update import Updates, eager_updates, has_hooks, is_watched, set_learning_rate, trainable

SHARING = range(4, 9)
"""So many updates of a small network share one graph: calling it costs more than what it computes."""
SMALL = 50_000
"""A network with fewer parameters, and a batch with fewer numbers, count as small."""
UNUSUAL = ("amsgrad", "dampening")
"""Options of optimizers with which no update is compiled."""

Step = Callable[[Sequence[Tensor], Tensor], None]
"""An optimizer's step from gradients and a learning rate ()."""

log = logging.getLogger(__name__)


def is_small(network: nn.Module) -> bool:
    """Whether calling the operations of an update takes longer than their arithmetic."""
    return sum(parameter.numel() for parameter in network.parameters()) < SMALL


def updates_per_graph(network: nn.Module, *, batch_numbers: int, in_a_row: int) -> int:
    """How many updates, on batches of so many numbers each, share a graph: of so many in a row few are left over."""
    if not is_small(network) or batch_numbers >= SMALL or in_a_row < min(SHARING):
        return 1
    return min(SHARING, key=lambda size: (in_a_row % size, -size))


def compiled_updates(
    network: nn.Module, loss: nn.Module, optimizer: Optimizer, *, batch_size: int, per_graph: int,
    clip_norm: float | None,
) -> Updates:  # fmt: skip
    """`per_graph` updates at a time on batches of `batch_size` as one graph of `torch.compile`, the rest eagerly.

    Weights may differ from the eager ones by rounding (those that nothing uses decay here, and do not there); dropout
    draws the same random numbers (on the CPU). The last gradient is left in `parameter.grad`, and state in the
    optimizer, as without compiling. The first call compiles; where that fails, it warns and all is computed eagerly, as
    it is for an optimizer without a functional form here.
    """
    parameters = trainable(network)
    eager = eager_updates(network, loss, optimizer, backward=Tensor.backward, clip_norm=clip_norm)
    step = functional_step(optimizer, parameters)
    if step is None:
        name = " with ".join([type(optimizer).__name__, *filter(optimizer.param_groups[0].get, UNUSUAL)])
        name += " with an average of the weights" * has_hooks(optimizer)
        name += " with hooks on the weights" * any(map(is_watched, parameters))
        log.warning("compile: %s is computed eagerly; SGD, Adam and AdamW are compiled", name)
        return eager
    graph: Callable[..., Any] | None = update_graph(
        network, loss, parameters, step, batch_size=batch_size, clip_norm=clip_norm
    )
    base_rate, device = optimizer.param_groups[0]["initial_lr"], parameters[0].device
    dtype = torch.promote_types(parameters[0].dtype, torch.float32)  # of learning rates

    @functools.lru_cache(maxsize=1)
    def rates(factors: tuple[float, ...]) -> Tensor:
        return torch.tensor([base_rate * factor for factor in factors], device=device, dtype=dtype)

    def updates(batches: Sequence[Batch], factors: Sequence[float]) -> tuple[list[Tensor], list[Tensor]]:
        losses: list[Tensor] = []
        logits: list[Tensor] = []
        is_same = list(map(id, trainable(network))) == list(map(id, parameters))  # none was frozen or freed meanwhile
        while (start := len(losses)) < len(batches):
            chunk = batches[start : start + per_graph]
            if graph and is_same and sum(len(batch.labels) == batch_size for batch in chunk) == per_graph:
                chunk_losses, chunk_logits = in_graph(chunk, factors[start : start + per_graph])
            else:
                chunk_losses, chunk_logits = eager(batches[start : start + 1], factors[start : start + 1])
            losses += chunk_losses
            logits += chunk_logits
        return losses, logits

    def in_graph(chunk: Sequence[Batch], factors: Sequence[float]) -> tuple[list[Tensor], list[Tensor]]:
        nonlocal graph
        assert graph is not None
        features = chunk[0].features if len(chunk) == 1 else torch.cat([batch.features for batch in chunk])
        labels = chunk[0].labels if len(chunk) == 1 else torch.cat([batch.labels for batch in chunk])
        try:
            losses, logits, gradients = graph(features, labels, rates(tuple(factors)))
        except torch._dynamo.exc.TorchDynamoException as error:
            log.warning("the update cannot be compiled (%s); computing it eagerly", first_line(error))
            graph = None
            return eager(chunk, factors)
        if device.type == "cuda":  # the next replay of a CUDA graph overwrites what this one gave
            losses, logits, gradients = ([part.clone() for part in parts] for parts in (losses, logits, gradients))
        set_learning_rate(optimizer, factors[-1])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return losses, logits

    return updates


def update_graph(
    network: nn.Module, loss: nn.Module, parameters: list[nn.Parameter], step: Step, *, batch_size: int,
    clip_norm: float | None,
) -> Callable[..., Any]:  # fmt: skip
    """Compile several updates: features, labels, learning rates (updates,) → losses, logits, the last gradients."""

    def forward(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(features)
        return loss(logits, labels), logits

    def apply(gradients: Sequence[Tensor], rate: Tensor) -> Sequence[Tensor]:
        if clip_norm is not None:
            scale = (clip_norm / (nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
            gradients = [gradient * scale for gradient in gradients]
        with torch.no_grad():
            step(gradients, rate)
        return gradients

    def several(features: Tensor, labels: Tensor, rates: Tensor) -> tuple[list[Tensor], list[Tensor], Sequence[Tensor]]:
        losses, all_logits = [], []
        gradients: Sequence[Tensor] = ()
        for part, part_labels, rate in zip(features.split(batch_size), labels.split(batch_size), rates, strict=True):
            batch_loss, logits = forward(part, part_labels)
            gradients = apply(torch.autograd.grad(batch_loss, parameters, materialize_grads=True), rate)
            losses.append(batch_loss.detach())
            all_logits.append(logits.detach())
        return losses, all_logits, gradients

    torch.compiler.reset()  # graphs of earlier runs in this process count towards a limit
    # Dropout draws what eager code draws; CUDA graphs on a GPU, where calling one kernel after the other takes longer.
    # On a CPU the calls between kernels in C++ too.
    on_cuda = parameters[0].device.type == "cuda"
    options = {"fallback_random": True, "triton.cudagraphs": on_cuda, "cpp_wrapper": not on_cuda}
    compiled = functools.partial(torch.compile, fullgraph=True, dynamic=False, options=options)
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):  # torch ≥ 2.15
        torch._dynamo.config.trace_autograd_ops = True
        return compiled(several)
    # Gradients cannot be part of a graph: three graphs then, the backward one made along with the forward one.
    forward, apply = compiled(forward), compiled(apply)
    return several


def functional_step(optimizer: Optimizer, parameters: list[nn.Parameter]) -> Step | None:
    """torch's own functional form of an optimizer's step, on its state, as function of gradients and learning rate.

    State that the first step would make is made here, as zeros, which leads to the same updates. None for other
    optimizers than SGD, Adam and AdamW, for several parameter groups, for UNUSUAL options, and where steps or weights
    have hooks.
    """
    group = optimizer.param_groups[0]
    is_usual = type(optimizer) in (SGD, Adam, AdamW) and not any(map(group.get, UNUSUAL))
    if not is_usual or len(optimizer.param_groups) > 1 or has_hooks(optimizer) or any(map(is_watched, parameters)):
        return None

    def kept(name: str, *, scalar: bool = False) -> list[Any]:
        states = [optimizer.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if state.get(name) is None:
                state[name] = torch.zeros(()) if scalar else torch.zeros_like(parameter)
            torch._dynamo.mark_static_address(state[name], guard=False)
        return [state[name] for state in states]

    weights: list[Tensor] = list(parameters)
    common = {"foreach": False, "maximize": group["maximize"], "weight_decay": group["weight_decay"]}
    if type(optimizer) is SGD:
        buffers = kept("momentum_buffer") if group["momentum"] else [None] * len(weights)
        return lambda gradients, rate: sgd(
            weights, list(gradients), buffers, lr=rate, momentum=group["momentum"], dampening=0.0,
            nesterov=group["nesterov"], **common,
        )  # fmt: skip
    counts, averages, squares = kept("step", scalar=True), kept("exp_avg"), kept("exp_avg_sq")
    return lambda gradients, rate: adam(
        weights, list(gradients), averages, squares, [], counts, lr=rate, beta1=group["betas"][0],
        beta2=group["betas"][1], eps=group["eps"], amsgrad=False,
        decoupled_weight_decay=group["decoupled_weight_decay"], **common,
    )  # fmt: skip


def has_compiler() -> bool:
    """Whether `torch.compile` can work here: a C++ compiler for the CPU."""
    return torch.cuda.is_available() or any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")))
