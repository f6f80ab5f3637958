"""How much the gradient differs from one batch to the next: the noise of stochastic gradient descent."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mlplab.config.rules import integer, number


class GradientNoise(Callback):
    """Log `grad/noise`: the variance of the batch gradient, summed over all weights, after a validation.

    With `before_training` also at the weights that training begins with: they are the same for every batch size.

    It is estimated without bias from `num_batches` random batches of the training batch size, at the weights of that
    moment, without dropout and augmentation; for batches drawn from N samples it falls as 1/B · (N − B)/(N − 1), to 0
    for the full batch. It is measured as often as `max_share` of the training's gradients allows, and after the
    first validation in any case. It draws from a generator of its own: training is the same with and without it.
    """

    def __init__(
        self, *, num_batches: int = 8, max_share: float = 0.05, seed: int = 0, before_training: bool = False
    ) -> None:
        integer(2).require("callbacks.gradient_noise.num_batches", num_batches)
        number(above=0, most=1).require("callbacks.gradient_noise.max_share", max_share)
        self.num_batches, self.max_share, self.seed = num_batches, max_share, seed
        self.before_training = before_training
        self.latest: tuple[int | None, float | None] = None, None  # after so many updates, the noise

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.before_training and trainer.global_step == 0:
            self._log(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and self._is_due(trainer):
            self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        noise = self.measure(trainer, pl_module)
        self.latest = trainer.global_step, noise
        for logger in trainer.loggers:
            logger.log_metrics({"grad/noise": noise}, step=trainer.global_step)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        measured_at, _ = self.latest
        return measured_at is None or trainer.global_step - measured_at >= self.num_batches / self.max_share

    def state_dict(self) -> dict[str, Any]:
        return {"latest": list(self.latest)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = tuple(state_dict["latest"])

    def measure(self, trainer: pl.Trainer, pl_module: Any) -> float:
        """The noise at the current weights, ≥ 0."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.datasets["train"]
        if data.batch_size >= len(dataset):
            return 0.0
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + trainer.global_step)
        parameters = [parameter for parameter in pl_module.network.parameters() if parameter.requires_grad]
        was_training = pl_module.training
        pl_module.eval()
        total: list[Tensor] = []
        squares = torch.zeros((), dtype=torch.float64)
        with torch.enable_grad():
            for _ in range(self.num_batches):
                chosen = torch.randperm(len(dataset), generator=generator)[: data.batch_size]
                indices = dataset.indices[chosen]
                features = data.preprocess(dataset.features[indices].to(pl_module.device))
                labels = dataset.labels[indices].to(pl_module.device)
                loss = pl_module.loss(pl_module.network(features), labels)
                gradient = torch.autograd.grad(loss, parameters)
                total = [a + b for a, b in zip(total, gradient, strict=True)] if total else list(gradient)
                squares += sum(float(part.square().sum()) for part in gradient)
        pl_module.train(was_training)
        squared_mean = sum(float((part / self.num_batches).square().sum()) for part in total)
        return max(0.0, (float(squares) - self.num_batches * squared_mean) / (self.num_batches - 1))
