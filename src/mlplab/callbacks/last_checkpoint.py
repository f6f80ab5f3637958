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
from lightning.pytorch.callbacks import Checkpoint

from mlplab import signals
from mlplab.callbacks.base import measured, stopped_early
from mlplab.callbacks.guards import Diverged
from mlplab.callbacks.tensorboard import flush_logs, log_sizes
from mlplab.files import moved
from mlplab.models.loops import begin_epoch_anew, ends_now, loop_state
from mlplab.signals import Stopped

LAST = "last.ckpt"


class LastCheckpoint(Checkpoint):
    """Save `dirpath`/last.ckpt every so many epochs, updates or minutes, and continue from any checkpoint bitwise.

    Epochs are passed over where saving would take more than `max_share` of the time since training began; the state at
    the end is always saved. A signal (see `mlplab.signals`) saves, then raises Stopped. Weights that are not finite
    raise Diverged and are never saved. On several processes all of them stop together.
    """

    def __init__(
        self, *, dirpath: str, every_n_epochs: int | None = 1, every_n_updates: int | None = None,
        every_n_minutes: float | None = None, max_share: float = 0.05,
    ) -> None:  # fmt: skip
        self.path = Path(dirpath) / LAST
        self.every_n_epochs, self.every_n_updates = every_n_epochs, every_n_updates
        self.every_n_minutes, self.max_share = every_n_minutes, max_share
        self._started = self._saved_at = time.monotonic()
        self._saved_update, self._seconds_saving = 0, 0.0
        self._restored: dict[str, Any] = {}

    # When

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._started = self._saved_at = time.monotonic()
        self._saved_update = trainer.global_step
        measured(trainer)  # its clock starts now at the latest
        if self._restored:
            mine = self._restored["processes"][trainer.global_rank]
            restore_random_states(mine["random"])
            if self._restored["mid_epoch"]:
                pl_module.continue_accumulating(mine["accumulated"])
            else:
                begin_epoch_anew(trainer)
        signals.install()
        signals.wait()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        updates = trainer.global_step - self._saved_update
        minutes = (time.monotonic() - self._saved_at) / 60
        due = bool(self.every_n_updates and updates >= self.every_n_updates)
        due |= bool(self.every_n_minutes and updates and minutes >= self.every_n_minutes)
        self._save_and_stop(trainer, pl_module, due=due)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        updates = (self.every_n_epochs or 0) * trainer.datamodule.updates_per_epoch
        due = bool(updates and trainer.global_step // updates > self._saved_update // updates)
        affordable = self._seconds_saving <= self.max_share * (time.monotonic() - self._started)
        # At the end of training other callbacks have a last look first.
        self._save_and_stop(trainer, pl_module, due=due and affordable and not ends_now(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._save_and_stop(trainer, pl_module, due=trainer.global_step > self._saved_update or not self.path.exists())
        signals.wait(False)

    def _save_and_stop(self, trainer: pl.Trainer, pl_module: Any, *, due: bool) -> None:
        start, stop = time.monotonic(), signals.pending()
        if trainer.world_size > 1:  # every process must leave after the same update, for the same signal
            wishes = torch.tensor([stop or 0, due], device=trainer.strategy.root_device)
            torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
            stop, due = int(wishes[0]) or None, bool(wishes[1])
        if due or stop:
            if not all(parameter.isfinite().all() for parameter in pl_module.network.parameters()):
                raise Diverged(f"weights are not finite after update {trainer.global_step}")
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved_at, self._saved_update = time.monotonic(), trainer.global_step
            self._seconds_saving += self._saved_at - start
        if stop:
            raise Stopped(stop, at=f" after update {trainer.global_step:,}")

    # What

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning leaves out of a checkpoint; called for last.ckpt and for all others."""
        processes: list[Any] = [{"random": random_states(), "accumulated": pl_module.accumulated()}]
        if trainer.world_size > 1:
            mine, processes = processes[0], processes * trainer.world_size
            torch.distributed.all_gather_object(processes, mine)
        flush_logs(trainer.loggers)
        checkpoint["exact"] = {
            "processes": processes,  # in the order of their ranks
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
            "reported_after": pl_module.reported_after,
            "stopped_early": stopped_early(trainer) is not None,
            "logs": log_sizes(trainer.loggers),
            "folder": str(self.path.parent),
            "seconds": measured(trainer).seconds,
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Tell Lightning, and the data, from where training goes on."""
        exact, updates, data = checkpoint["exact"], checkpoint["global_step"], trainer.datamodule
        span, update = divmod(updates, data.span * data.updates_per_epoch)
        checkpoint["loops"] = {"fit_loop": loop_state(updates, span, update // data.group_size)}
        checkpoint["callbacks"] = moved(checkpoint["callbacks"], exact["folder"], str(self.path.parent))
        data.done = (span * data.span, update)
        trainer.should_stop = exact["stopped_early"]
        measured(trainer).seconds_before = exact["seconds"]
        self._restored = exact | {"mid_epoch": update > 0}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        metrics = self._restored.get("metrics", {})  # they also count where nothing is left to train
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        pl_module.reported_after = dict(self._restored.get("reported_after", {}))


def random_states() -> dict[str, Any]:
    """The states of all random number generators a program may draw from, as plain data and tensors."""
    name, keys, *position = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *position],
        "python": [version, torch.from_numpy(np.array(internal)), gauss],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Continue all streams of random numbers where `random_states` found them."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    (name, keys, *position), (version, internal, gauss) = states["numpy"], states["python"]
    np.random.set_state((name, torch.as_tensor(keys).numpy(), *position))
    random.setstate((version, tuple(torch.as_tensor(internal).tolist()), gauss))
