"""One update of the weights: forward → loss → backward → step, eager or as one compiled graph."""

import functools
import inspect
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from mlplab.data.types import Batch

Updates = Callable[[Sequence[Batch], Sequence[float]], tuple[list[Tensor], list[Tensor]]]
"""Performs one update for each batch, with the learning rate times the factor given for it.

Gives the batches' mean losses () and logits (batch, outputs), each of before its update.
"""

UNROLLED = 4
"""Updates of a small network that share one compiled graph: calling it costs more than what it computes."""
SMALL = 50_000
"""A network with fewer parameters, and a batch with fewer numbers, count as small."""


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


def set_learning_rate(optimizer: Any, factor: float) -> None:
    """Set every parameter group's learning rate to `factor` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def bare_step(optimizer: Any) -> Callable[[], Any]:
    """The optimizer's step without the frame for profiling and hooks around it, which costs a tenth of a small update.

    Anything but a torch optimizer without hooks keeps its own `step`.
    """
    step = inspect.unwrap(type(optimizer).step)
    hooks = [getattr(optimizer, f"_optimizer_step_{when}_hooks", True) for when in ("pre", "post")]
    if not isinstance(optimizer, Optimizer) or any(hooks) or step is type(optimizer).step:
        return optimizer.step
    return torch.no_grad()(functools.partial(step, optimizer))


def compiled_updates(
    network: nn.Module, loss: nn.Module, optimizer: Optimizer, *, batch_size: int, clip_norm: float | None
) -> Updates:  # fmt: skip
    """The same updates as graphs of `torch.compile` for batches of `batch_size`; others are computed eagerly.

    Of a small network, UNROLLED updates are one graph. Weights may differ from the eager ones by rounding; dropout
    draws the same random numbers (on the CPU). The last gradient is left in `parameter.grad`, state in the optimizer,
    as without compiling. The first call compiles. Raises nothing where the optimizer has no functional form here: its
    step stays eager then.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    step = functional_step(optimizer, parameters)
    eager = eager_updates(network, loss, optimizer, backward=Tensor.backward, clip_norm=clip_norm)

    def forward(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(features)
        return loss(logits, labels), logits

    def apply(gradients: Sequence[Tensor], rate: Tensor) -> Sequence[Tensor]:
        if clip_norm is not None:
            scale = (clip_norm / (nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
            gradients = [gradient * scale for gradient in gradients]
        if step is not None:
            with torch.no_grad():
                step(list(gradients), rate)
        return gradients

    def several(features: Tensor, labels: Tensor, rates: Tensor) -> tuple[list[Tensor], list[Tensor], Sequence[Tensor]]:
        losses, all_logits = [], []
        gradients: Sequence[Tensor] = ()
        for part, part_labels, rate in zip(features.split(batch_size), labels.split(batch_size), rates, strict=True):
            batch_loss, logits = forward(part, part_labels)
            gradients = apply(torch.autograd.grad(batch_loss, parameters), rate)
            losses.append(batch_loss.detach())
            all_logits.append(logits.detach())
        return losses, all_logits, gradients

    if can_trace_gradients():
        graph = compile_graph(several)
    else:
        forward, apply = compile_graph(forward), compile_graph(apply)  # several() calls these
        graph = several
    rates = torch.zeros(1, device=parameters[0].device)
    rates_were: list[float] = []
    unrolled = 1

    def updates(batches: Sequence[Batch], factors: Sequence[float]) -> tuple[list[Tensor], list[Tensor]]:
        nonlocal rates, rates_were, unrolled
        if not rates_were:
            small = sum(map(Tensor.numel, parameters)) < SMALL and batches[0].features.numel() < SMALL
            unrolled = UNROLLED if small and step is not None and len(batches) >= UNROLLED else 1
        losses: list[Tensor] = []
        all_logits: list[Tensor] = []
        for start in range(0, len(batches), unrolled):
            chunk, chunk_factors = batches[start : start + unrolled], factors[start : start + unrolled]
            if len(chunk) < unrolled or len(chunk[-1].labels) != batch_size:
                chunk_losses, chunk_logits = eager(chunk, chunk_factors)
            else:
                set_learning_rate(optimizer, chunk_factors[-1])
                base_rate = optimizer.param_groups[0]["initial_lr"]
                chunk_rates = [base_rate * factor for factor in chunk_factors]
                if chunk_rates != rates_were:
                    rates, rates_were = torch.tensor(chunk_rates, device=rates.device), chunk_rates
                features = chunk[0].features if unrolled == 1 else torch.cat([batch.features for batch in chunk])
                labels = chunk[0].labels if unrolled == 1 else torch.cat([batch.labels for batch in chunk])
                chunk_losses, chunk_logits, gradients = graph(features, labels, rates)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                if step is None:
                    optimizer.step()
            losses += chunk_losses
            all_logits += chunk_logits
        return losses, all_logits

    return updates


def compile_graph(function: Callable) -> Callable:
    """`torch.compile` for one fixed shape, drawing random numbers as eager code does; CUDA graphs on a GPU."""
    torch._inductor.config.fallback_random = True
    mode = "reduce-overhead" if torch.cuda.is_available() else None
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def can_trace_gradients() -> bool:
    """Whether `torch.autograd.grad` can be part of a graph (torch ≥ 2.15); if so, it is switched on."""
    import torch._dynamo

    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return False
    torch._dynamo.config.trace_autograd_ops = True
    return True


def functional_step(
    optimizer: Optimizer, parameters: list[nn.Parameter]
) -> Callable[[list[Tensor], Tensor], None] | None:  # fmt: skip
    """torch's own functional form of an optimizer's step, on its state, as function of gradients and learning rate.

    State that the first step would make is made here, as zeros, which leads to the same updates. None where there are
    several parameter groups, or an optimizer or an option that has no functional form here.
    """
    group = optimizer.param_groups[0]
    dampened = bool(group.get("momentum") and group.get("dampening"))  # from the second step on
    if len(optimizer.param_groups) > 1 or group.get("amsgrad") or group.get("centered") or dampened:
        return None

    def kept(name: str, *, scalar: bool = False) -> list[Any]:
        states = [optimizer.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if state.get(name) is None:
                state[name] = torch.zeros(()) if scalar else torch.zeros_like(parameter)
        return [state[name] for state in states]

    weights: list[Tensor] = list(parameters)
    common = {"foreach": False, "maximize": group.get("maximize", False), "weight_decay": group["weight_decay"]}
    if type(optimizer) is SGD:
        buffers = kept("momentum_buffer") if group["momentum"] else [None] * len(weights)
        return lambda gradients, rate: sgd(
            weights, gradients, buffers, lr=rate, momentum=group["momentum"], dampening=0.0,
            nesterov=group["nesterov"], **common,
        )  # fmt: skip
    counts = kept("step", scalar=True)
    if type(optimizer) in (Adam, AdamW):
        averages, squares, (beta1, beta2) = kept("exp_avg"), kept("exp_avg_sq"), group["betas"]
        return lambda gradients, rate: adam(
            weights, gradients, averages, squares, [], counts, lr=rate, beta1=beta1, beta2=beta2, eps=group["eps"],
            amsgrad=False, decoupled_weight_decay=group["decoupled_weight_decay"], **common,
        )  # fmt: skip
    if type(optimizer) is RMSprop:
        squares, momenta = kept("square_avg"), kept("momentum_buffer") if group["momentum"] else []
        return lambda gradients, rate: rmsprop(
            weights, gradients, squares, [], momenta, counts, lr=rate, alpha=group["alpha"], eps=group["eps"],
            momentum=group["momentum"], centered=False, **common,
        )  # fmt: skip
    if type(optimizer) is Adagrad:
        sums = kept("sum")
        return lambda gradients, rate: adagrad(
            weights, gradients, sums, counts, lr=rate, lr_decay=group["lr_decay"], eps=group["eps"], **common
        )
    return None


def has_compiler() -> bool:
    """Whether `torch.compile` can work here: a C++ compiler for the CPU."""
    return torch.cuda.is_available() or any(
        shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "cl") if name
    )
