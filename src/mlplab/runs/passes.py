"""How many updates share one pass through Lightning, which counts passes where a person counts updates."""

import logging
from typing import Any

from omegaconf import DictConfig

from mlplab.config.keys import select

log = logging.getLogger(__name__)

GROUP_FLOATS = 2**22
"""steps_per_execution=auto groups updates until their features are so many numbers (16 MB), at most 256 updates."""


def limit_updates(module: Any, config: DictConfig) -> None:
    """Apply `trainer.limit_train_batches` and `steps_per_execution`, both in updates, to the training loader."""
    limit = select(config, "trainer.limit_train_batches", 1.0)
    updates = module.updates_per_epoch
    module.updates_per_epoch = max(1, min(updates, limit if isinstance(limit, int) else int(limit * updates)))
    module.group_size = group_size(config, module)


def group_size(config: DictConfig, module: Any) -> int:
    """How many updates share one pass through Lightning."""
    wanted = select(config, "steps_per_execution", 1)
    if select(config, "trainer.strategy") == "fsdp":
        return 1  # a sharded network gathers its weights once per pass
    if wanted == "auto":
        # Enough to make the pass cheap in comparison, few enough that the group's floats stay in the processor's cache.
        wanted = max(1, min(256, GROUP_FLOATS // (module.batch_size * module.num_features)))
    elif wanted > module.updates_per_epoch:
        log.info("steps_per_execution=%d: clipped to %d, an epoch's updates", wanted, module.updates_per_epoch)
    size = min(wanted, module.updates_per_epoch)
    while not falls_between_passes(config, module, size):
        size -= 1
    return size


def falls_between_passes(config: DictConfig, module: Any, size: int) -> bool:
    """Whether validations and checkpoints due after so many updates fall between passes of `size` updates."""
    epoch, validation = module.updates_per_epoch, val_check_updates(config, module)
    if validation < epoch and validation % size:
        return False
    if epoch % validation and -(-epoch // size) % (validation // size) == 0:
        return False  # the smaller last pass of an epoch would be taken for a whole one
    counts = [select(config, f"callbacks.{name}.every_n_train_steps") for name in select(config, "callbacks") or {}]
    return not any(count % size or epoch % size for count in counts if count)  # counted across epochs


def val_check_updates(config: DictConfig, module: Any) -> int:
    """Updates between validations within an epoch; the epoch's number of updates where there is one validation."""
    interval = select(config, "trainer.val_check_interval", 1.0)
    updates = interval if isinstance(interval, int) else int(interval * module.updates_per_epoch)
    return max(1, min(updates, module.updates_per_epoch))
