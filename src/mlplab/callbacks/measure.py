"""What is measured while a run trains: single updates, the noise of the gradient, the curve of one more split."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from mlplab.callbacks.base import evaluating, measured
from mlplab.config.keys import require
from mlplab.config.rules import one_of
from mlplab.files import now
from mlplab.models.losses import predicted

CURVES = {"test": ("test/loss", "test/acc"), "train": ("fitted/loss", "fitted/acc", "gap/fitted/acc")}
"""Split → the columns that its curve adds to history.csv."""


class UpdateMonitor(Callback):
    """Log `batch/loss`, `lr`, `grad/norm` and `weights/l2_norm` every `every_n_updates` updates.

    `batch/loss` is the loss of one batch before its update: its jitter shows the noise of the batch size, which the
    epoch's mean `train/loss` hides. `grad/norm` is the L2 norm of that batch's gradient (after clipping).
    """

    def __init__(self, *, every_n_updates: int = 50) -> None:
        self.every_n_updates = every_n_updates
        self._unwritten: list[tuple[int, dict[str, Tensor]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        updates, losses = trainer.global_step, outputs["losses"]
        before = updates - len(losses)
        if before == 0 or updates // self.every_n_updates > before // self.every_n_updates:
            values = {"batch/loss": losses[-1], "lr": torch.tensor(pl_module.learning_rate)}
            self._unwritten.append((updates, values | norms(pl_module.network)))
            if pl_module.device.type == "cpu":
                self.write(trainer)

    def write(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """To the loggers. Reading a value holds up a GPU, where this waits until the epoch's updates are done."""
        for updates, values in self._unwritten:
            for logger in trainer.loggers:
                logger.log_metrics({name: value.item() for name, value in values.items()}, step=updates)
        self._unwritten.clear()

    on_validation_start = on_train_epoch_end = on_save_checkpoint = write


def norms(network: nn.Module) -> dict[str, Tensor]:
    """The L2 norms () of all weights and, where there is one, of the gradient of the latest batch."""
    weights = [parameter.detach().float() for parameter in network.parameters()]
    gradients = [parameter.grad.float() for parameter in network.parameters() if parameter.grad is not None]
    parts = {"grad/norm": gradients, "weights/l2_norm": weights}
    return {name: nn.utils.get_total_norm(some) for name, some in parts.items() if some}


class GradientNoise(Callback):
    """Log `grad/noise`: the variance of the batch gradient, summed over all weights, after a validation.

    With `before_training` also at the weights that training begins with: they are the same for every batch size.

    It is estimated without bias from `num_batches` random batches of the training batch size, at the weights of that
    moment, without dropout and augmentation; for batches drawn from N samples it falls as 1/B · (N − B)/(N − 1), to 0
    for the full batch. It is measured as often as `max_share` of the training's gradients allows, and after the
    first validation in any case. It draws from a generator of its own: training is the same with and without it.
    """

    def __init__(self, *, num_batches: int = 8, max_share: float = 0.05, before_training: bool = False) -> None:
        require("callbacks.gradient_noise.num_batches", num_batches)
        require("callbacks.gradient_noise.max_share", max_share)
        self.num_batches, self.max_share, self.before_training = num_batches, max_share, before_training
        self._measured_at: int | None = None  # after so many updates

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.before_training and trainer.global_step == 0 and self._measured_at is None:
            self._log(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = self._measured_at
        if last is None or trainer.global_step - last >= self.num_batches / self.max_share:
            self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        noise = measured(trainer).latest["grad/noise"] = self.measure(trainer, pl_module)
        self._measured_at = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics({"grad/noise": noise}, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"latest": [self._measured_at]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._measured_at = state_dict["latest"][0]  # which earlier versions kept with the noise

    def measure(self, trainer: Any, pl_module: Any) -> float:
        """The noise at the current weights, ≥ 0."""
        data = trainer.datamodule
        dataset = data.datasets["train"]
        if data.batch_size >= len(dataset):
            return 0.0
        generator = torch.Generator().manual_seed(trainer.global_step)
        parameters = [parameter for parameter in pl_module.network.parameters() if parameter.requires_grad]
        total: list[Tensor] = []
        squares = torch.zeros((), dtype=torch.float64)
        with evaluating(pl_module), torch.enable_grad():
            for _ in range(self.num_batches):
                chosen = torch.randperm(len(dataset), generator=generator)[: data.batch_size]
                logits, labels = answers(pl_module, data, "train", dataset.indices[chosen])
                loss = pl_module.loss(logits, labels)
                parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
                gradient = [part.float() for part in parts]
                total = [a + b for a, b in zip(total, gradient, strict=True)] if total else gradient
                squares += sum(float(part.square().sum()) for part in gradient)
        squared_mean = sum(float((part / self.num_batches).square().sum()) for part in total)
        return max(0.0, (float(squares) - self.num_batches * squared_mean) / (self.num_batches - 1))


class SplitCurve(Callback):
    """Evaluate a split at each validation; the history notes it. Training is the same with and without it.

    `split="test"` gives `test/loss` and `test/acc`: what a test set would have said of every epoch. Each look is
    counted in result.json's `test_evaluations`. Use it where the question is about the test set itself.

    `split="train"` gives `fitted/loss` and `fitted/acc`: the training samples at the weights of that moment, without
    dropout and augmentation, where `train/acc` is with both and the mean over an epoch. `gap/fitted/acc` is
    `fitted/acc` − `val/acc`.
    """

    def __init__(self, *, split: str) -> None:
        one_of(*CURVES).require("split", split)
        self.split, self.names = split, CURVES[split]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        measured(trainer).latest |= dict.fromkeys(self.names)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        data = trainer.datamodule
        dataset = data.datasets[self.split]
        loss_sum = correct = 0.0
        with evaluating(pl_module):
            for indices in dataset.indices.split(data.eval_batch_size):
                logits, labels = answers(pl_module, data, self.split, indices)
                loss_sum += float(pl_module.loss(logits, labels)) * len(labels)
                correct += float((predicted(logits) == labels).sum())
        loss, acc = loss_sum / len(dataset), correct / len(dataset)
        values = loss, acc, acc - float(trainer.callback_metrics["val/acc"])
        measured(trainer).latest |= zip(self.names, values, strict=False)
        if self.split == "test":
            measured(trainer).looks.append(now())


def answers(pl_module: Any, data: Any, split: str, indices: Tensor) -> tuple[Tensor, Tensor]:
    """What the network says of samples of a split, without augmentation: logits (n, outputs), and labels (n,)."""
    dataset = data.datasets[split]
    features = data.preprocess(dataset.features[indices].to(pl_module.device))
    return pl_module.network(features), dataset.labels[indices].to(pl_module.device)
