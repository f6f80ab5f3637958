"""How a run's updates are divided: Lightning counts passes and spans where a person counts updates and epochs.

One pass through Lightning makes a group of updates. Where epochs are short, Lightning takes several for one of its own.
Weights do not depend on either.
"""

import logging
from collections.abc import Mapping
from typing import Any

from mlplab.data.module import DataModule

Config = Mapping[Any, Any]

GROUP_FLOATS = 2**22
"""steps_per_execution=auto groups updates until their features are so many numbers (16 MB), at most MOST_UPDATES."""
MOST_UPDATES = 256
SHORT = 20
"""An epoch of fewer updates is short: looking at the network, with its checkpoints and events, takes longer than it."""
FEWEST_LOOKS = 50
"""In a run that is not looked at after each of its short epochs."""

log = logging.getLogger(__name__)


def share(wanted: float, updates: int) -> int:
    """So many of an epoch's updates, or such a fraction of them, at least 1."""
    return max(1, min(updates, wanted if isinstance(wanted, int) else int(wanted * updates)))


def total_updates(config: Config, data: DataModule) -> int:
    """The planned number of updates, at least 1; where there is no limit, 1 (no schedule that needs it is allowed)."""
    options = config.get("trainer") or {}
    limits = [options.get("max_steps", -1), options.get("max_epochs", -1) * data.updates_per_epoch]
    return max(1, min((limit for limit in limits if limit > 0), default=1))


def epochs_per_validation(config: Config, data: DataModule) -> int:
    """What trainer.check_val_every_n_epoch says; auto passes over epochs that are shorter than the look at them.

    It is then a number of epochs with about SHORT updates by which max_epochs can be divided, so that the last one is
    looked at too.
    """
    options = config.get("trainer") or {}
    asked, max_epochs = options.get("check_val_every_n_epoch", 1), max(0, options.get("max_epochs", -1))
    if asked != "auto":
        return asked
    planned = total_updates(config, data) // data.updates_per_epoch
    most = max(1, min(-(-SHORT // data.updates_per_epoch), planned // FEWEST_LOOKS))
    return next(epochs for epochs in range(most, 0, -1) if max_epochs % epochs == 0)


def epoch_span(config: Config, data: DataModule) -> int:
    """How many epochs Lightning takes for one: where they are short, and nothing is due between them."""
    every, options = epochs_per_validation(config, data), config.get("trainer") or {}
    interval = share(options.get("val_check_interval", 1.0), data.updates_per_epoch)
    callbacks = [callback for callback in (config.get("callbacks") or {}).values() if callback]
    counts = any(callback.get("every_n_train_steps") for callback in callbacks)
    counts |= any(callback.get("every", "auto") != "auto" for callback in callbacks)
    counts |= bool(options.get("min_epochs") or options.get("min_steps"))
    if data.updates_per_epoch >= SHORT or interval < data.updates_per_epoch or counts or data.augmentation:
        return 1  # augmentation draws for one epoch at a time
    most, max_epochs = MOST_UPDATES // data.updates_per_epoch, max(0, options.get("max_epochs", -1))
    return next(size for size in range(min(most, every), 0, -1) if every % size == max_epochs % size == 0)


def group_size(config: Config, data: DataModule) -> int:
    """How many updates share one pass through Lightning."""
    wanted, options = config.get("steps_per_execution", 1), config.get("trainer") or {}
    updates = data.updates_per_epoch * data.span
    if options.get("strategy") == "fsdp":
        return 1  # a sharded network gathers its weights once per pass
    if wanted == "auto":
        # Enough to make the pass cheap in comparison, few enough that the group's floats stay in the processor's cache.
        wanted = max(1, min(MOST_UPDATES, GROUP_FLOATS // (data.batch_size * data.num_features)))
    elif wanted > updates:
        log.info("steps_per_execution=%d: clipped to %d, an epoch's updates", wanted, updates)
    interval = share(options.get("val_check_interval", 1.0), updates)
    saves = [callback.get("every_n_train_steps") for callback in (config.get("callbacks") or {}).values() if callback]
    saves.append(options.get("min_steps"))

    def fits(size: int) -> bool:
        """Whether validations, checkpoints and an early end, due after so many updates, fall between passes."""
        if interval < updates and interval % size:
            return False
        if updates % interval and -(-updates // size) % (interval // size) == 0:
            return False  # the smaller last pass of an epoch would be taken for a whole one
        return not any(count % size or updates % size for count in saves if count)  # counted across epochs

    return next(size for size in range(min(wanted, updates), 0, -1) if fits(size))
