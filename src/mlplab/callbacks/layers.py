"""How the layers of a network fare: their weights, how much an update moves them, which ReLUs are dead."""

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from mlplab.callbacks.moments import EVERY, look_is_due
from mlplab.callbacks.outputs import activations, can_look, samples
from mlplab.callbacks.tensorboard import log_together

Row = dict[str, float]

NUM_BINS, MOST_NUMBERS = 30, 20_000
"""Of a histogram: bins, as many as TensorBoard shows, and weights of a larger layer."""


class LayerMonitor(Callback):
    """After the first epoch, about ten times over the run (in a short one less often), and at its end: log

    - `weight_norm/<layer>`: the L2 norm of the layer's weights;
    - `update_to_weight/<layer>`: by how much the next update would change them if its gradient were the latest one,
      relative to that norm (about 0.001 is a usual aim);
    - `dead_relus/relu_<n>`: the share of the units of the n-th ReLU that are 0 for all of at most `num_samples`
      validation samples (training samples where there is no validation);
    - and in TensorBoard a histogram of the weights of each layer.

    `every` is "auto", or so many epochs. `rows` holds what was logged, with `epoch` and `updates`, and is part of the
    checkpoint. Training is the same with and without it. It does nothing under FSDP, where no process has the whole
    network.
    """

    def __init__(self, *, every: int | str = "auto", num_samples: int = 500) -> None:
        EVERY.require("callbacks.layers.every", every)
        self.every, self.num_samples = every, num_samples
        self.rows: list[Row] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._look_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look_if_due(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.rows and self.rows[-1]["updates"] != trainer.global_step:
            self._look(trainer, pl_module)

    def _look_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = int(self.rows[-1]["updates"]) if self.rows else None
        if look_is_due(trainer, last, every=self.every):
            self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not can_look(trainer):
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        layers, updates = layer_weights(pl_module.network), trainer.global_step
        split = "val" if len(data.datasets["val"]) else "train"
        relus = activations(pl_module, data, samples(data, split, most=self.num_samples)[0]).relus
        values = {f"weight_norm/{name}": float(weight.norm()) for name, weight in layers.items()}
        values |= {f"update_to_weight/{name}": ratio
                   for name, ratio in update_to_weight(trainer.optimizers[0], layers).items()}  # fmt: skip
        values |= {f"dead_relus/relu_{index}": dead_share(output) for index, output in enumerate(relus, start=1)}
        self.rows.append({"epoch": updates / data.updates_per_epoch, "updates": updates, **values})
        histograms = {f"weights/{name}": evenly_chosen(weight, most=MOST_NUMBERS) for name, weight in layers.items()}
        log_together(trainer.loggers, values, histograms, updates=updates, bins=NUM_BINS)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weight matrices by the names of their layers; biases and normalizations are not among them."""
    matrices = {name: weight.detach() for name, weight in network.named_parameters() if weight.ndim > 1}
    return {name.removesuffix(".weight"): weight for name, weight in matrices.items()}


def evenly_chosen(weight: Tensor, *, most: int) -> Tensor:
    """At most so many of the numbers of a matrix (n,), evenly spread over it."""
    return weight.flatten()[:: -(-weight.numel() // most)]


def update_to_weight(optimizer: Optimizer, layers: dict[str, Tensor]) -> dict[str, float]:
    """‖update‖ / ‖weights‖ of each layer for an update with the gradients there are, made by a copy of the optimizer.

    Layers without a gradient, and those whose weights are all 0, are left out.
    """
    twin = copy.deepcopy(optimizer)
    copies: dict[int, Tensor] = {}  # by the memory of the original
    for group, twin_group in zip(optimizer.param_groups, twin.param_groups, strict=True):
        for parameter, other in zip(group["params"], twin_group["params"], strict=True):
            other.grad = None if parameter.grad is None else parameter.grad.clone()
            copies[parameter.data_ptr()] = other
    twin.step()
    with torch.no_grad():
        return {
            name: float((other - weight).norm()) / size
            for name, weight in layers.items()
            if (other := copies.get(weight.data_ptr())) is not None and other.grad is not None
            and (size := float(weight.norm())) > 0
        }  # fmt: skip


def dead_share(output: Tensor) -> float:
    """The share of units that are 0 for all samples: ReLU outputs (samples, …)."""
    return float((output.flatten(1) == 0).all(dim=0).float().mean())
