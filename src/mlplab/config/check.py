"""What is wrong with a config: missing parts, single values, and how they go together. Needs no torch."""

import contextlib
import copy
import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.keys import FRACTION, RULES, SECTIONS, TOP_LEVEL
from mlplab.config.rules import MAPPING, NULL, each, integer
from mlplab.config.targets import is_own, name_faults, nodes
from mlplab.errors import did_you_mean, first_line

CONF = Path(__file__).parents[3] / "conf"
"""The folder of all configs, at the top of the checkout."""

Values = dict[str, Any]
"""All of a config as plain data, sections and items of lists among them: dotted key → value."""

UNUSABLE = {
    "GradientAccumulationScheduler": "raise data.batch_size", "BackboneFinetuning": "leave it out",
    "BatchSizeFinder": "sweep data.batch_size", "LearningRateFinder": "sweep optimizer.lr",
    "SpikeDetection": "callbacks.stop_on_divergence is there",
}  # fmt: skip
"""Callbacks of Lightning's that cannot work here, and what to do."""

UNKNOWN_YET = "(known when the run begins)"
"""Stands for what Hydra decides when a run begins, such as its folder."""
SET_BY_MLPLAB = (
    "default_root_dir", "logger", "callbacks", "plugins", "model_registry", "enable_checkpointing",
    "use_distributed_sampler", "log_every_n_steps", "overfit_batches", "fast_dev_run", "barebones",
    "enable_autolog_hparams", "reload_dataloaders_every_n_epochs", "limit_predict_batches",
)  # fmt: skip
"""Options of Lightning's Trainer that have another place here, or none."""
TENSORBOARD = (
    "save_dir", "name", "version", "log_graph", "default_hp_metric", "prefix", "sub_dir", "max_queue", "flush_secs",
    "filename_suffix",
)  # fmt: skip
METRICS = ("train/loss", "train/acc", "val/loss", "val/acc", "gap/loss", "gap/acc")
"""What a run logs after each validation; callbacks of the user's own may log more."""
LINEAR = ("mlplab.models.networks.Perceptron", "mlplab.models.networks.SoftmaxRegression")
FIXED_SIZE = ("digits", "cifar10", "mnist", "image_folder")
BYTES_OF_A_SAMPLE = 100
"""What a generated sample of two features takes at most while it is made: float64 numbers, labels and orders."""


def config_faults(config: DictConfig) -> list[str]:
    """One line for each fault that can be seen from the config alone; a broken reference alone."""
    try:
        values = nodes(resolved_config(config))
    except OmegaConfBaseException as error:
        return [f"{error.full_key}: {first_line(error)}"]
    written = nodes(OmegaConf.to_container(config))
    if "folder" in values and (absent := section_faults(written)):
        return absent
    faults: dict[str, str] = {}
    for key, value in values.items():
        rule = NULL | MAPPING if re.fullmatch(r"(callbacks|logger)\.[^.\[]+", key) else RULES.get(key)
        is_elsewhere = re.fullmatch(r"\$\{[\w.]+\}", str(written.get(key)))  # the value of another key, looked at there
        if value == "???":
            faults[key] = f"{key} must be given: write {key}=…"
        elif rule and not is_elsewhere and UNKNOWN_YET not in str(value) and (fault := rule.fault(key, value)):
            faults[key] = fault
    others = [] if faults.keys() & set(SECTIONS) else combination_faults(values)
    return [" ".join(fault.splitlines()) for fault in (*faults.values(), *others)]  # what is named may hold anything


def resolved_config(config: DictConfig) -> Any:
    """The config as plain data without references. Raises OmegaConf's errors for those that lead nowhere."""
    while True:
        try:
            return OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            if "HydraConfig was not set" not in str(error):
                raise
            config = copy.deepcopy(config)
            OmegaConf.update(config, str(error.full_key), UNKNOWN_YET)


def section_faults(values: Values) -> list[str]:
    """One line for each part that the config of a run must have and lacks."""
    needed = [f"{section}._target_" for section in SECTIONS[:-2]]
    needed += ["optimizer.lr", "callbacks", "logger", "seed", "monitor"]
    wrong = [fault for key in SECTIONS if key in values and (fault := RULES[key].fault(key, values[key]))]
    if wrong:
        return wrong
    parts = {f"{section}.{name}": part for section in SECTIONS[-2:] for name, part in values.get(section, {}).items()}
    needed += [f"{key}._target_" for key, part in parts.items() if part]
    return [f"{key} must be given" for key in needed if key not in values]


# How values go together that are right by themselves


def combination_faults(values: Values) -> Iterator[str]:
    """One line for each fault in how the values of a config go together."""
    yield from (f"{key}: no such key at the top level" for key in values[""] if key not in TOP_LEVEL)
    yield from name_faults(values[""])
    yield from _path_faults(values)
    yield from _split_faults(values)
    yield from _monitor_faults(values)
    yield from _model_faults(values)
    yield from _trainer_faults(values)
    yield from _callback_faults(values)
    yield from _logger_faults(values)
    yield from _memory_faults(values)


def _path_faults(values: Values) -> Iterator[str]:
    """Paths outside the run folder: what Lightning writes stays in it; the user's own code may write elsewhere.

    Every text is looked at that can only be a path, and all values of keys that are called so.
    """
    own, folder = _own_parts(values), Path(str(values.get("folder")))
    for key, text in values.items():
        if not isinstance(text, str) or not key.startswith(("trainer.", "callbacks.", "logger.")):
            continue
        is_path = key.endswith(("dir", "path")) and not key.endswith(".sub_dir")
        path = Path(text) if is_path else folder / text.replace("\\", "/")
        inside = False
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # no path at all, or a ring of links
            inside = path.resolve().is_relative_to(folder.resolve())
            inside &= not text.startswith("~") and "://" not in text
        if not inside and not key.startswith(own):
            yield f"{key} must lie in the run folder, got {text!r}; leave it out, or begin it with ${{folder}}"


def _own_parts(values: Values) -> tuple[str, ...]:
    """How the keys begin of parts that are built from the user's own packages."""
    return tuple(f"{key}." for key, node in values.items() if isinstance(node, dict) and is_own(node.get("_target_")))


def _split_faults(values: Values) -> Iterator[str]:
    folds, fold, val, test = _get(values, "data", "num_folds", "fold", "val_fraction", "test_fraction")
    if folds is None and integer(0).holds(fold):
        yield f"data.fold={fold} needs the number of folds: set data.num_folds=5 too"
    elif integer(2).holds(folds) and fold is None:
        yield f'data.num_folds={folds} needs data.fold=0, or all folds: -m "data.fold=range({folds})"'
    elif integer(2).holds(folds) and integer(folds).holds(fold):
        yield f"data.fold must be below data.num_folds={folds}, since folds count from 0, got {fold}"
    curves = [key for key, split in values.items() if re.fullmatch(r"callbacks\..+\.split", key) and split == "test"]
    if test == 0 and curves:
        yield f"{curves[0]}=test needs samples to test, but data.test_fraction=0; raise it"
    if folds is None and FRACTION.holds(val) and FRACTION.holds(test) and val + test >= 1:
        yield f"data.val_fraction + data.test_fraction must be below 1, got {val:g} + {test:g}; lower one of them"


def _monitor_faults(values: Values) -> Iterator[str]:
    """Metrics to follow that there will not be, each once."""
    keys = [key for key in values if re.fullmatch(r"(callbacks\.[^.\[]+\.)?monitor", key)]
    may_be_more = any(part.startswith("callbacks.") for part in _own_parts(values))
    has_validation = values.get("data.num_folds") is not None or values.get("data.val_fraction") != 0
    for metric, key in {values[key]: key for key in reversed(keys) if isinstance(values[key], str)}.items():
        if metric not in METRICS and not may_be_more:
            near = did_you_mean(metric, METRICS)
            yield f"{key}={metric} is never logged{near}; there are: {', '.join(METRICS)}"
        elif metric.startswith(("val/", "gap/")) and not has_validation:
            yield f"{key}={metric} needs validation data, but data.val_fraction=0; raise it or monitor train/loss"


def _model_faults(values: Values) -> Iterator[str]:
    dropout, sizes = _get(values, "model", "dropout", "hidden_sizes")
    source = _built(values, "data")
    if dropout is not None and (values.get("model._target_") in LINEAR or (sizes == [] and dropout != 0)):
        yield f"model.dropout={dropout} needs hidden layers, which this network lacks; choose model=mlp_dropout"
    elif isinstance(dropout, list) and isinstance(sizes, list) and len(dropout) != len(sizes):
        yield f"model.dropout must be one number or one per hidden layer ({len(sizes)}), got {dropout!r}"
    if _built(values, "loss") == "PerceptronLoss" and "loss.label_smoothing" in values:
        yield "loss.label_smoothing has no meaning for the perceptron criterion; choose another model or regularization"
    if _built(values, "loss") == "PerceptronLoss" and values.get("data.augmentation.mixup"):
        yield "data.augmentation.mixup has no meaning for the perceptron criterion; set it to 0 or choose another model"
    if source in FIXED_SIZE and "data.num_samples" in values:
        fixed = f"data={source} has a fixed number of samples; compare subsets with data.train_size=…"
        yield f"data.num_samples cannot be set: {fixed}"


def _trainer_faults(values: Values) -> Iterator[str]:
    cores, devices = os.cpu_count() or 1, values.get("trainer.devices")
    if values.get("trainer.accelerator") in ("cpu", "auto") and isinstance(devices, int) and devices > cores:
        yield f"trainer.devices must be at most {cores}, the number of CPU cores here, got {devices}"
    decided = [f"trainer.{key}" for key in SET_BY_MLPLAB if f"trainer.{key}" in values]
    yield from (f"{key} is decided by mlplab; leave it out" for key in decided)
    if values.get("trainer.accumulate_grad_batches", 1) != 1:
        yield "trainer.accumulate_grad_batches is not supported; raise data.batch_size, which gives the same updates"
    clip = values.get("trainer.gradient_clip_val")
    if clip is not None and values.get("trainer.strategy") == "fsdp":
        yield f"trainer.gradient_clip_val={clip} needs whole gradients, which trainer=fsdp divides; leave it out"
    name = _built(values, "scheduler")
    needs_end = name not in ("constant", "Plateau") or values.get("scheduler.warmup")
    if needs_end and values.get("trainer.max_epochs") == values.get("trainer.max_steps", -1) == -1:
        yield f"scheduler {name} must know the number of updates; set trainer.max_epochs or trainer.max_steps"


def _callback_faults(values: Values) -> Iterator[str]:
    """Lightning's callbacks that count passes for updates, or need its own optimization."""
    for name in values.get("callbacks", {}):
        built = _built(values, f"callbacks.{name}")
        is_lightnings = str(values.get(f"callbacks.{name}._target_")).startswith("lightning.")
        if is_lightnings and built in UNUSABLE:
            yield f"callbacks.{name}: {built} needs updates made by Lightning, not by mlplab; {UNUSABLE[built]}"
        if not built.endswith("WeightAveraging"):
            continue
        if is_lightnings:
            yield f"callbacks.{name} would average after passes of many updates; use regularization=weight_averaging"
        elif values.get("trainer.strategy") == "fsdp":
            yield f"callbacks.{name} needs whole networks, which trainer=fsdp divides; choose another trainer"


def _logger_faults(values: Values) -> Iterator[str]:
    """Options that no logger has: TensorBoard's would say so only once the run has begun."""
    for name, options in values.get("logger", {}).items():
        if _built(values, f"logger.{name}").startswith("TensorBoard"):
            for key in options.keys() - {"_target_", *TENSORBOARD}:
                yield f"logger.{name}.{key}: no such option; it has: {', '.join(TENSORBOARD)}"


def _memory_faults(values: Values) -> Iterator[str]:
    """Data and networks that cannot fit into the memory of this machine."""
    samples, size, channels = _get(values, "data", "num_samples", "size", "channels")
    (sizes,) = _get(values, "model", "hidden_sizes")
    needed, there = {}, memory()
    if integer(1).holds(samples):
        pixels = size * size * (channels or 1) if integer(1).holds(size) else 0
        needed[f"data.num_samples={samples}", "choose fewer"] = samples * (BYTES_OF_A_SAMPLE + pixels)
    if each(integer(1)).holds(sizes):
        weights = sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
        needed[f"model.hidden_sizes={sizes}", "choose smaller ones"] = 2 * 4 * weights
    for (key, advice), bytes_ in needed.items():
        if bytes_ > there:
            both = f"{bytes_ / 2**30:,.0f} GB of memory, and this machine has {there / 2**30:,.0f} GB"
            yield f"{key} needs about {both}; {advice}"


def memory() -> float:
    """Bytes that this machine has, or that its container may use; infinite where the system does not say."""
    found = [math.inf]
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows does not say
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no container, or "max"
            found.append(int(Path(path).read_text()))
    return min(found)


def _get(values: Values, section: str, *names: str) -> list[Any]:
    """Some values of a section, None for those that it has not."""
    return [values.get(f"{section}.{name}") for name in names]


def _built(values: Values, section: str) -> str:
    """The name of what a section is built from, without its module."""
    return str(values.get(f"{section}._target_")).rpartition(".")[2]
