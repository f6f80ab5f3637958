"""How the keys of a config must go together, where each value is right by itself. Reads values only, needs no torch."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.keys import FRACTION, SET_BY_MLPLAB, TOP_LEVEL
from mlplab.config.memory import too_large
from mlplab.config.rules import each, integer
from mlplab.config.selection import has_folds, select
from mlplab.config.targets import is_own, name_faults

TENSORBOARD = (
    "save_dir", "name", "version", "log_graph", "default_hp_metric", "prefix", "sub_dir", "max_queue", "flush_secs",
    "filename_suffix",
)  # fmt: skip
BYTES_OF_A_SAMPLE = 100
"""What a generated sample of two features takes at most while it is made: float64 numbers, labels and orders."""

LINEAR = ("mlplab.models.networks.Perceptron", "mlplab.models.networks.SoftmaxRegression")
FIXED_SIZE = ("digits", "cifar10", "mnist", "image_folder")


def combination_faults(config: DictConfig) -> Iterator[str]:
    """One line for each fault in how the keys of a config go together."""
    for key in map(str, config):
        if key not in TOP_LEVEL:
            yield f"{key}: no such key at the top level"
    yield from name_faults(OmegaConf.to_container(config))
    yield from _path_faults(config)
    yield from _split_faults(config)
    yield from _model_faults(config)
    yield from _trainer_faults(config)
    yield from _logger_faults(config)
    yield from _size_faults(config)


def _path_faults(config: DictConfig) -> Iterator[str]:
    """Paths outside the run folder: what Lightning writes stays in it, wherever the config comes from."""
    plain: Any = OmegaConf.to_container(config)
    with contextlib.suppress(OmegaConfBaseException, ValueError):  # a run that has not begun has no folder yet
        plain = OmegaConf.to_container(config, resolve=True)
    folder = str(plain.get("folder"))
    for section in ("trainer", "callbacks", "logger"):
        for key, value in _texts(plain.get(section), section):
            if _leads_outside(key, value.replace("${folder}", folder), folder):
                yield f"{key} must lie in the run folder, got {value!r}; leave it out, or begin it with ${{folder}}"


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """All texts below a node of plain data with their dotted keys, without those for the user's own code."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict) and not is_own(node.get("_target_")):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, f"{path}[{index}]")


def _leads_outside(key: str, path: str, folder: str) -> bool:
    """Whether a text is a path out of the folder: every text that can only be a path, and all values of such keys."""
    name = key.rpartition(".")[2]
    climbs = Path(path).is_absolute() or path.startswith("~") or "://" in path or ".." in re.split(r"[/\\]", path)
    if not climbs and (name == "sub_dir" or not name.endswith(("dir", "path"))):
        return False
    try:
        return not Path(path).resolve().is_relative_to(Path(folder).resolve())
    except (OSError, ValueError, RuntimeError):  # no path at all, or a ring of links
        return True


def _split_faults(config: DictConfig) -> Iterator[str]:
    val, test = select(config, "data.val_fraction"), select(config, "data.test_fraction")
    yield from _fold_faults(select(config, "data.num_folds"), select(config, "data.fold"))
    if has_folds(config):
        return  # data.val_fraction is not used
    if FRACTION.holds(val) and FRACTION.holds(test) and val + test >= 1:
        yield f"data.val_fraction + data.test_fraction must be below 1, got {val:g} + {test:g}; lower one of them"
    if val == 0:
        monitors = {"monitor": select(config, "monitor")}
        monitors |= {
            f"callbacks.{name}.monitor": select(config, f"callbacks.{name}.monitor")
            for name in select(config, "callbacks") or {}
            if name != "checkpoint"  # its monitor is the one above
        }
        for key, monitor in monitors.items():
            if isinstance(monitor, str) and monitor.startswith(("val/", "gap/")):
                yield f"{key}={monitor} needs validation data, but data.val_fraction=0; raise it or monitor train/loss"


def _fold_faults(num_folds: Any, fold: Any) -> Iterator[str]:
    if num_folds is None and integer(0).holds(fold):
        yield f"data.fold={fold} needs the number of folds: set data.num_folds=5 too"
    elif integer(2).holds(num_folds) and fold is None:
        yield f'data.num_folds={num_folds} needs data.fold=0, or all folds: -m "data.fold=range({num_folds})"'
    elif integer(2).holds(num_folds) and integer(0).holds(fold) and fold >= num_folds:
        yield f"data.fold must be below data.num_folds={num_folds}, since folds count from 0, got {fold}"


def _model_faults(config: DictConfig) -> Iterator[str]:
    target, dropout = select(config, "model._target_"), select(config, "model.dropout")
    sizes = select(config, "model.hidden_sizes")
    if dropout is not None and (target in LINEAR or (sizes == [] and dropout != 0)):
        yield f"model.dropout={dropout} needs hidden layers, which this network lacks; choose model=mlp_dropout"
    elif isinstance(dropout, list) and isinstance(sizes, list) and len(dropout) != len(sizes):
        yield f"model.dropout must be one number or one per hidden layer ({len(sizes)}), got {dropout!r}"
    if str(select(config, "loss._target_")).endswith("PerceptronLoss") and "label_smoothing" in config.loss:
        yield "loss.label_smoothing has no meaning for the perceptron criterion; choose another model or regularization"
    source = str(select(config, "data._target_")).rpartition(".")[2]
    if source in FIXED_SIZE and "num_samples" in config.data:
        yield (
            f"data.num_samples cannot be set: data={source} has a fixed number of samples; "
            "compare subsets with data.train_size=…"
        )


def _trainer_faults(config: DictConfig) -> Iterator[str]:
    if not isinstance(config.get("trainer"), DictConfig):
        return
    trainer = config.trainer
    cores, devices = os.cpu_count() or 1, select(config, "trainer.devices")
    if trainer.get("accelerator") in ("cpu", "auto") and isinstance(devices, int) and devices > cores:
        yield f"trainer.devices must be at most {cores}, the number of CPU cores here, got {devices}"
    for key in SET_BY_MLPLAB:
        if key.partition(".")[2] in trainer:
            yield f"{key} is decided by mlplab; leave it out"
    if trainer.get("accumulate_grad_batches", 1) != 1:
        yield "trainer.accumulate_grad_batches is not supported; raise data.batch_size, which gives the same updates"
    if trainer.get("max_epochs") == -1 and trainer.get("max_steps", -1) == -1:
        name = str(select(config, "scheduler._target_")).rpartition(".")[2]
        if name not in ("constant", "Plateau") or select(config, "scheduler.warmup"):
            yield f"scheduler {name} must know the number of updates; set trainer.max_epochs or trainer.max_steps"


def _logger_faults(config: DictConfig) -> Iterator[str]:
    """Options that no logger has: TensorBoard's would say so only once the run has begun."""
    for name, options in (select(config, "logger") or {}).items():
        if options and str(options.get("_target_")).endswith(".TensorBoardLogger"):
            for key in options.keys() - {"_target_", *TENSORBOARD}:
                yield f"logger.{name}.{key}: no such option; it has: {', '.join(TENSORBOARD)}"


def _size_faults(config: DictConfig) -> Iterator[str]:
    """Data and networks that cannot fit into the memory of this machine."""
    samples, size = select(config, "data.num_samples"), select(config, "data.size")
    if integer(1).holds(samples):
        pixels = size * size * (select(config, "data.channels") or 1) if integer(1).holds(size) else 0
        if fault := too_large(f"data.num_samples={samples}", samples * (BYTES_OF_A_SAMPLE + pixels), "choose fewer"):
            yield fault
    sizes = select(config, "model.hidden_sizes")
    if each(integer(1)).holds(sizes):
        weights = sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
        if fault := too_large(f"model.hidden_sizes={sizes}", 2 * 4 * weights, "choose smaller ones"):
            yield fault
