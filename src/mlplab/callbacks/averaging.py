"""An average of the weights over the latest updates, which is validated, saved and tested in their place."""

from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mlplab.config.keys import require
from mlplab.errors import ConfigError
from mlplab.models.loops import ends_now


class WeightAveraging(pl.callbacks.WeightAveraging):
    """Lightning's, as an exponential moving average that is taken after updates, of which one pass makes many.

    It begins as the weights after the first update. Every `every_n_updates` updates it keeps `decay` of itself and
    takes the rest from the weights: so it reaches about `every_n_updates` / (1 − `decay`) updates back. At the k-th
    time it keeps (1 + k) / (10 + k) at most, and so reaches back over no more than a ninth of the updates so far.

    The network holds the weights while it is trained, and the average from the beginning of a validation until the
    callbacks before this one have looked, and after training. The `state_dict` of every checkpoint is the average; the
    weights are beside it. Raises ConfigError where a run goes on from a checkpoint without an average.
    """

    def __init__(self, *, decay: float = 0.98, every_n_updates: int = 10) -> None:
        require("callbacks.weight_averaging.decay", decay)
        require("callbacks.weight_averaging.every_n_updates", every_n_updates)

        def average(averaged: Any, current: Any, times: Tensor) -> None:
            kept = min(decay, (1 + int(times)) / (10 + int(times)))
            get_ema_multi_avg_fn(kept)(averaged, current, times)

        super().__init__(multi_avg_fn=average)
        self.every_n_updates = every_n_updates
        self._updates = 0
        self._network_holds_average = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        average: Any = self._average_model
        average.to(pl_module.device)  # where the network is by now
        self._hold(pl_module, average=True)  # also where nothing is left to train

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def after_update(*_: Any) -> None:
            if self._updates % self.every_n_updates == 0:
                average.update_parameters(pl_module)
            self._updates += 1

        average: Any = self._average_model
        self._hold(pl_module, average=False)
        trainer.optimizers[0].register_step_post_hook(after_update)

    def on_train_batch_end(self, *_: Any) -> None:
        """Nothing: Lightning would take the average after a pass, however many updates it makes."""

    def on_train_epoch_end(self, *_: Any) -> None:
        """Nothing."""

    # What the network holds

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hold(pl_module, average=True)

    def on_validation_epoch_end(self, *_: Any) -> None:
        """Nothing: callbacks that look at the network after a validation are to see what was validated."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hold(pl_module, average=ends_now(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hold(pl_module, average=True)

    def _hold(self, pl_module: pl.LightningModule, *, average: bool) -> None:
        """Exchange the weights and the average where the network does not hold what it is to hold."""
        if average != self._network_holds_average:
            self._swap_models(pl_module)
            self._network_holds_average = average

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._updates = state_dict["updates"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:  # fmt: skip
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._network_holds_average:
            weights, average = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint |= {"state_dict": average, "current_model_state": weights}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:  # fmt: skip
        if "current_model_state" not in checkpoint:
            raise ConfigError(
                "the checkpoint has no average of the weights, which callbacks.weight_averaging goes on from; "
                "continue from last.ckpt, or start a new run"
            )
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
