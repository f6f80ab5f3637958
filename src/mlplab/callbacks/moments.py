"""When what costs time is due: a few times over a run."""

import lightning.pytorch as pl

from mlplab.config.rules import Rule, integer, one_of

EVERY: Rule = one_of("auto") | integer(1)
"""How often: about ten times over the run, less often in a short one, or after every so many epochs."""

SPACING, EPOCH_END = 400, 30
"""A look at a network takes as long as about 10 updates, so looks are this many apart; the end of an epoch, with its
validation and checkpoints, counts as so many updates (measured with small networks on CPUs)."""


def look_is_due(trainer: pl.Trainer, last: int | None, *, every: int | str) -> bool:
    """Whether to look at the network now, when it was last looked at after so many updates (None: not yet).

    The first time is due at once; "auto" is then ten times over the run, fewer in a short one, at least three.
    """
    if last is None:
        return True
    count, total = 10, planned_updates(trainer)
    if total:
        effort = total * (1 + EPOCH_END / updates_per_epoch(trainer))
        count = max(3, min(count, int(effort / SPACING)))
    before, now = (moments_passed(trainer, at, every=every, count=count) for at in (last, trainer.global_step))
    return before < now


def moments_passed(trainer: pl.Trainer, updates: int, *, every: int | str = "auto", count: int = 10) -> int:
    """How many moments lie at or before so many updates.

    They are `every` epochs apart; with "auto" they divide the planned updates into `count` parts, and where no end is
    planned they are after 1, 2, 4, 8, … updates.
    """
    if isinstance(every, int):
        return updates // (every * updates_per_epoch(trainer))
    total = planned_updates(trainer)
    return updates * count // total if total else updates.bit_length()


def planned_updates(trainer: pl.Trainer) -> int | None:
    """The number of updates after which a run ends at the latest; None where only time or patience ends it."""
    planned = [trainer.max_steps, (trainer.max_epochs or -1) * updates_per_epoch(trainer)]
    return min((limit for limit in planned if limit > 0), default=None)


def updates_per_epoch(trainer: pl.Trainer) -> int:
    return trainer.datamodule.updates_per_epoch  # type: ignore[attr-defined]
