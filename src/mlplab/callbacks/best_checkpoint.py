"""best.ckpt: the state of training that is best by the monitored metric."""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which of equally good states keeps the one of the lowest loss, not the first.

    The loss is `val/loss`, or `train/loss` where there is no validation. `best_after` is the number of updates after
    which the best state was met. With `save_top_k` 0 no state is kept; more than one cannot be.
    """

    best_loss = math.inf
    best_after: int | None = None

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        is_kept = super().check_monitor_top_k(trainer, current)
        if current is None:
            return is_kept
        metrics, best = trainer.callback_metrics, self.best_model_score
        loss = float(metrics["val/loss" if "val/loss" in metrics else "train/loss"])
        is_best = is_kept and (best is None or bool(current > best if self.mode == "max" else current < best))
        is_best |= best is not None and bool(current == best) and loss < self.best_loss
        if is_best:
            self.best_loss, self.best_after = loss, trainer.global_step
        return is_kept or is_best

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_loss": self.best_loss, "best_after": self.best_after}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best_loss, self.best_after = state_dict["best_loss"], state_dict["best_after"]
