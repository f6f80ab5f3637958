"""Classifier: the LightningModule that trains any network, several updates for each pass through the framework."""

import logging
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from mlplab.data.loader import Batch
from mlplab.errors import first_line
from mlplab.models.compiled import compiled_updates, updates_per_graph
from mlplab.models.linear import fast_updates
from mlplab.models.loops import count_updates, ends_now
from mlplab.models.losses import predicted
from mlplab.models.update import eager_updates

log = logging.getLogger(__name__)

Schedule = Callable[[int, int], float]
"""Factor on the base learning rate, from the number of updates done and the planned total."""
NAMES = ("loss", "acc")


class Classifier(pl.LightningModule):
    """Trains `network` (features → logits) on labelled batches and reports loss and accuracy.

    `loss` is a module with `forward(logits, labels)` and `probabilities(logits)`. `make_optimizer` makes an optimizer
    from parameters. `schedule` gives the learning rate as a factor on the optimizer's, over `total_updates`; one with
    an `observe` method is told the metric named `monitor` after each validation, or each epoch where there is none.
    `gradient_clip_norm` limits the L2 norm of each update's gradient. With `compile_batch_size`, updates on batches of
    that size are compiled into one graph; with `fast_layers`, others are made on a CPU as `models.linear` makes them.

    Optimization is manual in Lightning's sense: one `training_step` performs all updates of a group, so that callbacks
    and loops run once per group. `trainer.global_step` counts updates all the same.
    """

    def __init__(
        self, network: nn.Module, *, loss: nn.Module, make_optimizer: Callable[..., Optimizer],
        schedule: Schedule, total_updates: int, gradient_clip_norm: float | None = None, monitor: str = "val/acc",
        compile_batch_size: int | None = None, fast_layers: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss = network, loss
        self.make_optimizer, self.schedule, self.total_updates = make_optimizer, schedule, total_updates
        self.gradient_clip_norm, self.monitor = gradient_clip_norm, monitor
        self.compile_batch_size, self.fast_layers = compile_batch_size, fast_layers
        self.train_metrics, self.eval_metrics = Metrics(), Metrics()
        self.reported_after: dict[str, int] = {}  # after how many updates train, val, … were reported last
        self.is_due = True  # whether a validation is one that a longer run would make as well

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, …) → logits (batch, outputs)."""
        return self.network(features)

    def probabilities(self, features: Tensor) -> Tensor:
        """Features (batch, …) → class probabilities (batch, classes)."""
        loss: Any = self.loss
        return loss.probabilities(self(features))

    # Training

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer(self.network.parameters())
        if optimizer.defaults.get("fused") and (reason := why_not_fused(self.make_optimizer, self.network)):
            log.warning("optimizer.fused=true is not for this device (%s); computed the ordinary way", reason)
            optimizer = self.make_optimizer(self.network.parameters(), fused=False)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def training_step(self, batches: list[Batch], batch_idx: int) -> dict[str, Tensor]:
        """Perform one update for each batch of the group; gives their losses (updates,)."""
        done, data = self.trainer.global_step, self.trainer.datamodule  # type: ignore[attr-defined]
        if self.trainer.max_steps >= 0:
            batches = batches[: self.trainer.max_steps - done]
        factors = [self.schedule(update, self.total_updates) for update in range(done, done + len(batches))]
        losses, logits = self.updates(batches, factors)
        if not self._scales_loss:
            count_updates(self.trainer, len(batches))
        # Of the epoch of the latest update: a group may begin in an earlier one.
        begun = (done + len(batches) - 1) // data.updates_per_epoch * data.updates_per_epoch - done
        if begun >= 0:
            self.train_metrics.reset()
        begun = max(0, begun)
        self.train_metrics.update(batches[begun:], losses[begun:], logits[begun:])
        return {"losses": torch.stack(losses)}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Have the last state of a run validated, also where no validation is due."""
        trainer: Any = self.trainer
        if ends_now(trainer):
            self.is_due = batch_idx + 1 == trainer.num_training_batches
            if self._validates:
                is_in_turn = (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
                self.is_due = is_in_turn and (batch_idx + 1) % trainer.val_check_batch == 0
                trainer.check_val_every_n_epoch = trainer.val_check_batch = 1
            self.is_due &= len(outputs["losses"]) == len(batch)  # max_steps may end a group before its time

    def on_train_start(self) -> None:
        """Choose how an update is made; by now the network is on its device and the optimizer's state restored."""
        loss: Any = self.loss
        optimizer: Any = self.optimizers(use_pl_optimizer=self._scales_loss)
        plain = not self._scales_loss and self.trainer.world_size == 1
        # Lightning's backward scales half precision's loss and prepares the exchange between processes.
        backward = Tensor.backward if plain else self.manual_backward
        clip_norm = None if self._scales_loss else self.gradient_clip_norm
        self.updates = eager_updates(self.network, loss, optimizer, backward=backward, clip_norm=clip_norm)
        if self.compile_batch_size is not None and not plain:
            log.warning("compile: this is for one device without a loss scale; updates are not compiled")
        elif self.compile_batch_size is not None:
            size, data = self.compile_batch_size, self.trainer.datamodule  # type: ignore[attr-defined]
            in_a_row = min(data.group_size, data.updates_per_epoch, len(data.datasets["train"]) // size)
            per_graph = updates_per_graph(self.network, batch_numbers=size * data.num_features, in_a_row=in_a_row)
            self.updates = compiled_updates(
                self.network, loss, optimizer, batch_size=size, per_graph=per_graph, clip_norm=clip_norm
            )
        elif self.fast_layers and plain and self.trainer.precision == "32-true" and self.device.type == "cpu":
            self.updates = fast_updates(self.network, loss, optimizer, clip_norm=clip_norm)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the latest update (of the first parameter group)."""
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    @property
    def _scales_loss(self) -> bool:
        """Whether half precision scales the loss, which Lightning's own optimizer wrapper must see to."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip after the gradients have been unscaled; Lightning calls this for its own optimizer wrapper only."""
        if self.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip_norm)

    # Evaluation

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of the latest update, which Lightning would clear: callbacks report their norm."""

    def validation_step(self, batches: list[Batch], batch_idx: int) -> None:
        logits = [self.network(batch.features) for batch in batches]
        losses = [self.loss(batch_logits, batch.labels) for batch_logits, batch in zip(logits, batches, strict=True)]
        self.eval_metrics.update(batches, losses, logits)

    def test_step(self, batches: list[Batch], batch_idx: int) -> None:
        self.validation_step(batches, batch_idx)

    def predict_step(self, batches: list[Batch], batch_idx: int) -> Tensor:
        """Class probabilities (batch, classes)."""
        return torch.cat([self.probabilities(batch.features) for batch in batches])

    # Reporting. Training and validation are reported together, so that their gap is of the same moment.

    @property
    def _validates(self) -> bool:
        return len(self.trainer.datamodule.datasets["val"]) > 0  # type: ignore[attr-defined]

    def on_validation_epoch_end(self) -> None:
        values = self.eval_metrics.compute("val/")
        self.eval_metrics.reset()
        if self.trainer.state.fn == TrainerFn.FITTING:
            train, val = self.train_metrics.compute("train/"), values
            values = train | val | {f"gap/{name}": train[f"train/{name}"] - val[f"val/{name}"] for name in NAMES}
        self._report(values)
        self._observe()

    def on_train_epoch_end(self) -> None:
        if self.reported_after.get("train") != self.trainer.global_step:
            self._report(self.train_metrics.compute("train/"))
        if not self._validates:
            self._observe()

    def _observe(self) -> None:
        """Tell a schedule that adapts how the run fares."""
        known = self.trainer.callback_metrics
        if self.is_due and hasattr(self.schedule, "observe") and self.monitor in known:
            self.schedule.observe(float(known[self.monitor]))

    def on_test_epoch_end(self) -> None:
        self._report(self.eval_metrics.compute("test/"))
        self.eval_metrics.reset()

    def _report(self, values: dict[str, Tensor]) -> None:
        """To callbacks, and to the loggers at the number of updates done."""
        # Not by `self.log`: it takes as long as two updates for each value, a third of an epoch of full-batch descent.
        self.trainer.callback_metrics.update(values)
        self.reported_after |= {name.partition("/")[0]: self.trainer.global_step for name in values}
        for logger in self.loggers:
            logger.log_metrics({name: value.item() for name, value in values.items()}, step=self.trainer.global_step)

    # Checkpoints hold the state of the schedule, where it has one, and the metrics of an epoch that is not yet over.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if hasattr(self.schedule, "state_dict"):
            checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if hasattr(self.schedule, "load_state_dict"):
            self.schedule.load_state_dict(checkpoint["schedule"])

    def accumulated(self) -> dict[str, Any]:
        """What this process has accumulated of the current epoch's training metrics."""
        return {"train_metrics": self.train_metrics.metric_state}

    def continue_accumulating(self, state: dict[str, Any]) -> None:
        """Go on from `accumulated()`, in the midst of an epoch."""
        self.train_metrics.restore(state["train_metrics"])


def why_not_fused(make_optimizer: Callable[..., Optimizer], network: nn.Module) -> str | None:
    """What torch says to a fused step on the device and type of the weights, which it does not say before a step."""
    weight = next(network.parameters()).detach().flatten()[:1].clone().requires_grad_()
    weight.grad = torch.zeros_like(weight)
    try:
        make_optimizer([weight]).step()
    except RuntimeError as error:
        return first_line(error)
    return None


class Metrics(Metric):
    """Mean loss and accuracy over samples, accumulated on the device, over all processes when they are computed."""

    loss_sum: Tensor
    correct: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, nothing in (("loss_sum", 0.0), ("correct", 0), ("samples", 0)):
            self.add_state(name, torch.tensor(nothing), dist_reduce_fx="sum")

    def update(self, batches: list[Batch], losses: list[Tensor], logits: list[Tensor]) -> None:
        """Take note of a group of batches: their mean losses () and logits (batch, outputs)."""
        counted = [index for index, batch in enumerate(batches) if batch.weight > 0]
        if not counted:
            return
        sizes = torch.tensor([float(len(batches[index].labels)) for index in counted])
        group_losses = torch.stack([losses[index] for index in counted]).float()
        # Not by @, which autocast computes in 16 bits.
        self.loss_sum += torch.dot(group_losses, sizes.to(group_losses.device, non_blocking=True))
        guesses = predicted(torch.cat([logits[index] for index in counted]))
        labels = torch.cat([batches[index].labels for index in counted])
        self.correct += (guesses == (labels if labels.ndim == 1 else labels.argmax(dim=1))).sum()  # of mixed samples
        self.samples += len(guesses)

    def compute(self, prefix: str = "") -> dict[str, Tensor]:
        """Values so far, by the NAMES with a prefix."""
        return {f"{prefix}loss": self.loss_sum / self.samples, f"{prefix}acc": self.correct / self.samples}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `metric_state`."""
        if "acc" in state:  # as earlier versions kept it: a metric of torchmetrics for each value
            counts, samples = state["acc"], state["samples"]["sum_value"].long()
            # True positives of one class are right, and true negatives where there is no other.
            correct = torch.maximum(counts["tp"], samples - counts["fp"] - counts["fn"]).sum()
            state = {"loss_sum": state["loss_sum"]["sum_value"], "correct": correct, "samples": samples}
        for name, value in state.items():
            setattr(self, name, value.to(self.device))
