"""Lightning's private counters and loop states, which have no public names: all that mlplab knows of them is here."""

from typing import Any

import lightning.pytorch as pl


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
