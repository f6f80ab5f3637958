"""How the layers of a network fare: their weights, how much an update moves them, which ReLUs are dead."""

import copy
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from mlplab.callbacks.base import Row, activations, can_look, look_is_due, measured, samples
from mlplab.callbacks.tensorboard import boards, tolerated
from mlplab.config.keys import require

NUM_BINS, MOST_NUMBERS = 30, 20_000
"""Of a histogram: bins, as many as TensorBoard shows, and weights of a larger layer."""


class LayerMonitor(Callback):
    """After the first epoch, about ten times over the run (in a short one less often), and at its end: log

    - `weight_norm/<layer>`: the L2 norm of the layer's weights, in TensorBoard with their histogram;
    - `update_to_weight/<layer>`: by how much the next update would change them if its gradient were the latest one,
      relative to that norm (about 0.001 is a usual aim);
    - `dead_relus/relu_<n>`: the share of the units of the n-th ReLU that are 0 for all of at most `num_samples`
      validation samples (training samples where there is no validation).

    `every` is "auto", or so many epochs. `rows` is part of the checkpoint. Training is the same with and without it.
    """

    def __init__(self, *, every: int | str = "auto", num_samples: int = 500) -> None:
        require("callbacks.layers.every", every)
        require("callbacks.layers.num_samples", num_samples)
        self.every, self.num_samples = every, num_samples
        self.rows: list[Row] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        measured(trainer).layers = self.rows

    def look_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last: Any = self.rows[-1]["updates"] if self.rows else None
        if can_look(trainer) and look_is_due(trainer, last, every=self.every):
            self._look(trainer, pl_module)

    on_validation_end = on_train_epoch_end = look_if_due

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.rows and self.rows[-1]["updates"] != trainer.global_step:
            self._look(trainer, pl_module)

    def _look(self, trainer: Any, pl_module: Any) -> None:
        data, layers, updates = trainer.datamodule, layer_weights(pl_module.network), trainer.global_step
        split = "val" if len(data.datasets["val"]) else "train"
        relus, _ = activations(pl_module, data, samples(data, split, most=self.num_samples)[0])
        ratios = update_to_weight(trainer.optimizers[0], layers)
        values = {f"weight_norm/{name}": float(weight.float().norm()) for name, weight in layers.items()}
        values |= {f"update_to_weight/{name}": ratio for name, ratio in ratios.items()}
        values |= {f"dead_relus/relu_{index}": dead_share(output) for index, output in enumerate(relus, start=1)}
        self.rows.append({"epoch": updates / data.updates_per_epoch, "updates": updates, **values})
        for logger in trainer.loggers:
            logger.log_metrics(values, step=updates)
        for board in boards(trainer.loggers):
            for name, weight in layers.items():
                some = weight.flatten()[:: -(-weight.numel() // MOST_NUMBERS)].float()  # evenly spread over the layer
                with tolerated(f"the histogram of {name}"):
                    board.experiment.add_histogram(f"weights/{name}", some, updates, bins=NUM_BINS)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weight matrices by the names of their layers; biases and normalizations are not among them."""
    matrices = {name: weight.detach() for name, weight in network.named_parameters() if weight.ndim > 1}
    return {name.removesuffix(".weight"): weight for name, weight in matrices.items()}


def update_to_weight(optimizer: Optimizer, layers: dict[str, Tensor]) -> dict[str, float]:
    """‖update‖ / ‖weights‖ of each layer for an update with the gradients there are, made by a copy of the optimizer.

    Layers without a gradient, and those whose weights are all 0, are left out.
    """
    twin = copy.deepcopy(optimizer)
    copies: dict[int, Tensor] = {}  # by the memory of the original
    for group, twin_group in zip(optimizer.param_groups, twin.param_groups, strict=True):
        for weight, copied in zip(group["params"], twin_group["params"], strict=True):
            if weight.grad is not None:
                copied.grad, copies[weight.data_ptr()] = weight.grad.clone(), copied.detach()
    twin.step()
    return {
        name: float((copies[weight.data_ptr()] - weight).norm()) / float(weight.norm())
        for name, weight in layers.items()
        if weight.data_ptr() in copies and weight.any()
    }


def dead_share(output: Tensor) -> float:
    """The share of units that are 0 for all samples: ReLU outputs (samples, …)."""
    return float((output.flatten(1) == 0).all(dim=0).float().mean())
