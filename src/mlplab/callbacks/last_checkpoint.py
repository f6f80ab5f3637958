"""last.ckpt: the whole state of training, saved while it runs and when it is asked to stop, and continued from.

A checkpoint is taken between two updates, once everything that belongs to the first has happened, validation included:
before the next group of updates, or at the end of an epoch. Where a run continues follows from the number of updates
alone, so it does not matter in what groups they were made.
"""

import random
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from mlplab import signals
from mlplab.callbacks.guards import Diverged
from mlplab.callbacks.run_logs import flush_logs, log_sizes
from mlplab.models.loops import begin_epoch_anew, loop_state
from mlplab.signals import Stopped


class LastCheckpoint(Checkpoint):
    """Save `dirpath`/last.ckpt every so many epochs, updates or minutes, and continue from any checkpoint bitwise.

    Epochs are passed over where saving would take more than `max_share` of the time since training began; the state at
    the end is always saved. A signal (see `mlplab.signals`) saves, then raises Stopped. Weights that are not finite
    raise Diverged and are never saved. On several processes all of them stop together.
    """

    def __init__(
        self, *, dirpath: str, every_n_epochs: int | None = 1, every_n_updates: int | None = None,
        every_n_minutes: float | None = None, max_share: float = 0.1,
    ) -> None:  # fmt: skip
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_epochs, self.every_n_updates, self.every_n_minutes = (
            every_n_epochs,
            every_n_updates,
            every_n_minutes,
        )
        self.max_share = max_share
        self.seconds_before = 0.0  # of training, in earlier launches of this run
        self._started = self._saved_at = time.monotonic()
        self._saved_update = 0
        self._seconds_saving = 0.0
        self._restored: dict[str, Any] | None = None
        self._began = False

    # When

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started = self._saved_at = time.monotonic()
        self._saved_update, self._began = trainer.global_step, True
        if self._restored is not None:
            self._restore(trainer, pl_module, self._restored)
        signals.install()
        signals.wait()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        updates = trainer.global_step - self._saved_update
        minutes = (time.monotonic() - self._saved_at) / 60
        due = bool(self.every_n_updates and updates >= self.every_n_updates)
        due |= bool(self.every_n_minutes and updates and minutes >= self.every_n_minutes)
        self._save_and_stop(trainer, pl_module, due=due)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        due = bool(self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0)
        affordable = self._seconds_saving <= self.max_share * (time.monotonic() - self._started)
        self._save_and_stop(trainer, pl_module, due=due and affordable)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.global_step > self._saved_update or not self.path.exists():
            self._save(trainer, pl_module)
        self._save_and_stop(trainer, pl_module, due=False)  # a signal since the epoch's end
        signals.wait(False)

    def _save_and_stop(self, trainer: pl.Trainer, pl_module: Any, *, due: bool) -> None:
        stop = signals.pending()
        asked = stop is not None
        if trainer.world_size > 1:  # every process must leave after the same update
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due or asked:
            self._save(trainer, pl_module)
        if asked:
            raise Stopped(stop or signals.STOPPING[0], at=f" after update {trainer.global_step:,}")

    def _save(self, trainer: pl.Trainer, pl_module: Any) -> None:
        start = time.monotonic()
        if not all(parameter.isfinite().all() for parameter in pl_module.network.parameters()):
            raise Diverged(
                f"diverged: weights are not finite after update {trainer.global_step}; "
                "lower optimizer.lr, or set trainer.gradient_clip_val=1"
            )
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_at, self._saved_update = time.monotonic(), trainer.global_step
        self._seconds_saving += self._saved_at - start

    # What

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning leaves out of a checkpoint; called for last.ckpt and for all others."""
        state = {"random": random_states(), "accumulated": pl_module.accumulated()}
        flush_logs(trainer.loggers)
        checkpoint["exact"] = {
            "processes": gathered(trainer, state),
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
            "stopped_early": any(
                isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience
                for callback in trainer.callbacks  # type: ignore[attr-defined]
            ),
            "logs": log_sizes(trainer.loggers),
            "folder": str(self.path.parent),
            "seconds": self.seconds_before + time.monotonic() - self._started,
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Tell Lightning, and the data, from where training goes on."""
        exact = checkpoint["exact"]
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        epoch, update = divmod(checkpoint["global_step"], data.updates_per_epoch)
        checkpoint["loops"] = {"fit_loop": loop_state(checkpoint["global_step"], epoch, update // data.group_size)}
        checkpoint["callbacks"] = moved(checkpoint["callbacks"], exact["folder"], str(self.path.parent))
        data.continue_at(epoch, update)
        trainer.should_stop = exact["stopped_early"]
        self.seconds_before = exact["seconds"]
        self._restored = exact | {"mid_epoch": update > 0}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self._began and self._restored is not None:  # there was nothing left to train
            trainer.callback_metrics.update(tensors(self._restored["metrics"]))

    def _restore(self, trainer: pl.Trainer, pl_module: Any, exact: dict[str, Any]) -> None:
        trainer.callback_metrics.update(tensors(exact["metrics"]))
        mine = exact["processes"][trainer.global_rank]
        restore_random_states(mine["random"])
        if exact["mid_epoch"]:
            pl_module.continue_accumulating(mine["accumulated"])
            return
        begin_epoch_anew(trainer)


def moved(state: Any, old: str, new: str) -> Any:
    """The same state with paths below the folder `old` now below `new`: run folders may be moved."""
    if isinstance(state, dict):
        return {moved(key, old, new): moved(value, old, new) for key, value in state.items()}
    if isinstance(state, str) and (state == old or state.startswith(f"{old}/")):
        return new + state[len(old) :]
    return state


def gathered(trainer: pl.Trainer, state: dict[str, Any]) -> list[Any]:
    """The states of all processes, in the order of their ranks."""
    states: list[Any] = [state]
    if trainer.world_size > 1:
        states *= trainer.world_size
        torch.distributed.all_gather_object(states, state)
    return states


def random_states() -> dict[str, Any]:
    """The states of all random number generators a program may draw from, as plain data."""
    name, keys, *position = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), np.asarray(keys).tolist(), *map(float, position)],
        "python": [version, list(internal), gauss],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Continue all streams of random numbers where `random_states` found them."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), int(position), int(has_gauss), cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def tensors(metrics: dict[str, float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in metrics.items()}
