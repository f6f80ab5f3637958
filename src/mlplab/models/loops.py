"""How far a run has come: what is planned; Lightning's private counters and loop states, which only this file knows."""

from typing import Any

import lightning.pytorch as pl


def planned_updates(trainer: Any) -> int | None:
    """The number of updates after which a run ends at the latest; None where only time or patience ends it."""
    planned = [trainer.max_steps, (trainer.max_epochs or -1) * trainer.datamodule.updates_per_epoch]
    return min((limit for limit in planned if limit > 0), default=None)


def may_stop(trainer: Any) -> bool:
    """Whether the run has come as far as it must before it may end early."""
    epochs = trainer.global_step // trainer.datamodule.updates_per_epoch
    return trainer.global_step >= (trainer.min_steps or 0) and epochs >= (trainer.min_epochs or 0)


def ends_now(trainer: Any) -> bool:
    """Whether training ends with the updates that have been made."""
    return trainer.global_step == planned_updates(trainer) or (trainer.should_stop and may_stop(trainer))


def count_updates(trainer: pl.Trainer, count: int) -> None:
    """Count updates made without Lightning's optimizer wrapper, for `trainer.global_step`, `max_steps`, checkpoints."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for counter in (progress.total, progress.current):
        counter.ready += count
        counter.completed += count


def begin_epoch_anew(trainer: pl.Trainer) -> None:
    """Let a run that continues at the beginning of an epoch begin it as any other epoch.

    With `max_steps`, Lightning sees a restart in the midst of an epoch everywhere.
    """
    loop: Any = trainer.fit_loop
    loop._restarting = loop.epoch_loop.restarting = False


def loop_state(updates: int, epoch: int, passes: int) -> dict[str, Any]:
    """Lightning's progress after `updates` in all, with whole epochs and passes of the next one all complete."""

    def counted(count: int, *names: str) -> dict[str, int]:
        return dict.fromkeys(names or ("ready", "started", "processed", "completed"), count)

    begun = {"ready": epoch + bool(passes), "started": epoch + bool(passes), "processed": epoch, "completed": epoch}
    made, optimized = counted(passes), counted(updates, "ready", "completed")
    return {
        "epoch_progress": {"total": begun, "current": dict(begun)},
        "epoch_loop.batch_progress": {"total": made, "current": dict(made), "is_last_batch": False},
        "epoch_loop.manual_optimization.optim_step_progress": {"total": optimized, "current": counted(0, *optimized)},
    }
