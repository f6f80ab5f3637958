"""What each key of the config must be, and how keys must go together; reads values only, so it needs no torch."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mlplab.checks import NULL, SWITCH, Rule, each, integer, number, one_of, text

CONF = Path(__file__).parents[2] / "conf"
"""The folder of all configs, at the top of the checkout."""

TRUSTED = ("torch", "torchvision", "torchmetrics", "lightning", "mlplab")
"""Packages that a `_target_` may come from. Add the package of your own networks and data sets here."""

AUTO = one_of("auto")
FRACTION = number(least=0, below=1)
SHARE_OR_COUNT = Rule(
    "a fraction above 0.0 up to 1.0 or an integer ≥ 1",
    lambda value: integer(1).holds(value) or (isinstance(value, float) and 0 < value <= 1),
)

RULES: dict[str, Rule] = {
    "seed": NULL | integer(0, 2**32 - 1),
    "test": SWITCH,
    "monitor": text(),
    "monitor_mode": one_of("min", "max"),
    "steps_per_execution": AUTO | integer(1),
    "threads": AUTO | integer(1),
    "compile": AUTO | SWITCH,
    "data.batch_size": one_of("full") | integer(1),
    "data.eval_batch_size": integer(1),
    "data.val_fraction": FRACTION,
    "data.test_fraction": FRACTION,
    "data.train_size": NULL | integer(1),
    "data.split_seed": integer(0),
    "data.num_folds": NULL | integer(2),
    "data.fold": NULL | integer(0),
    "data.normalize": SWITCH,
    "data.num_workers": integer(0),
    "data.num_samples": integer(4),
    "data.num_classes": integer(2),
    "data.noise": number(least=0),
    "data.label_noise": number(least=0, most=1),
    "data.seed": integer(0),
    "data.size": NULL | integer(1) | each(integer(1)),
    "data.channels": one_of(None, 1, 3, 4),
    "data.augmentation.flip": number(least=0, most=1),
    "data.augmentation.crop": integer(0),
    "data.augmentation.translate": FRACTION,
    "data.augmentation.rotate": number(least=0, most=180),
    "model.hidden_sizes": each(integer(1)),
    "model.dropout": FRACTION | each(FRACTION),
    "model.activation": one_of("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"),
    "model.normalization": one_of("none", "batch", "layer"),
    "model.width": integer(1),
    "model.depth": integer(1),
    "model.expansion": integer(1),
    "loss.label_smoothing": FRACTION,
    "optimizer.lr": number(above=0),
    "optimizer.weight_decay": number(least=0),
    "optimizer.momentum": FRACTION,
    "scheduler.warmup": FRACTION,
    "scheduler.final": number(least=0, most=1),
    "scheduler.start": number(least=0, most=1),
    "scheduler.gamma": number(above=0, most=1),
    "scheduler.milestones": each(number(least=0, most=1)),
    "scheduler.patience": integer(0),
    "trainer.max_epochs": integer(-1),
    "trainer.max_steps": integer(-1),
    "trainer.devices": AUTO | integer(1) | each(integer(0), empty=False),
    "trainer.gradient_clip_val": NULL | number(above=0),
    "trainer.check_val_every_n_epoch": integer(1),
    "trainer.limit_train_batches": SHARE_OR_COUNT,
    "trainer.limit_val_batches": SHARE_OR_COUNT,
    "trainer.limit_test_batches": SHARE_OR_COUNT,
    "trainer.val_check_interval": SHARE_OR_COUNT,
    "trainer.num_sanity_val_steps": integer(0),
    "callbacks.early_stopping.patience": integer(0),
    "callbacks.early_stopping.min_delta": number(least=0),
    "callbacks.early_stopping.monitor": text(),
    "callbacks.update_monitor.every_n_updates": integer(1),
    "callbacks.gradient_noise.num_batches": integer(2),
    "callbacks.gradient_noise.max_share": number(above=0, most=1),
    "split": one_of("train", "val", "test"),
    "checkpoint": one_of("best", "last"),
    "accelerator": text(),
    "checkpoint.every_n_epochs": NULL | integer(1),
    "checkpoint.every_n_updates": NULL | integer(1),
    "checkpoint.every_n_minutes": NULL | number(above=0),
    "checkpoint.max_share": number(least=0, most=1),
    "resume": NULL | text(),
    "run": text(),
    "input": text(),
    "output": text(),
    "overwrite": SWITCH,
    "images": one_of("train", "test", "all"),
    "figure": NULL | text(),
    "folders": each(text(), empty=False),
    "repetitions": integer(1),
    "only": NULL | each(text()),
    "batch_size": integer(1),
}
"""What each key of the config must be, where the config has it."""

LINEAR = ("mlplab.networks.Perceptron", "mlplab.networks.SoftmaxRegression")
FIXED_SIZE = ("digits", "cifar10", "mnist", "image_folder")


def config_faults(config: DictConfig) -> list[str]:
    """One line for each fault that can be seen from the config alone."""
    missing = list(_missing(config))
    if "folder" in config and (absent_sections := section_faults(config)):
        return absent_sections
    absent = object()
    faults = [f"{key} must be given: write {key}=…" for key in missing]
    for key, rule in RULES.items():
        value = select(config, key, absent)
        if isinstance(value, dict) and key == "checkpoint":
            continue  # train.py's section of that name; elsewhere it names one
        if value is not absent and key not in missing and (fault := rule.fault(key, value)):
            faults.append(fault)
    return faults + list(_cross_faults(config))


def section_faults(config: DictConfig) -> list[str]:
    """One line for each part that the config of a run must have and lacks."""
    needed = [f"{section}._target_" for section in ("data", "model", "loss", "optimizer", "scheduler", "trainer")]
    needed += ["optimizer.lr", "callbacks", "logger", "seed", "monitor"]
    absent = object()
    return [f"{key} must be given" for key in needed if select(config, key, absent) is absent]


def _missing(config: DictConfig, path: str = "") -> Iterator[str]:
    """Keys whose value is ???, dotted."""
    for key in map(str, config):
        if OmegaConf.is_missing(config, key):
            yield f"{path}{key}"
        elif not OmegaConf.is_interpolation(config, key) and isinstance(config[key], DictConfig):
            yield from _missing(config[key], f"{path}{key}.")


def select(config: DictConfig, key: str, default: Any = None) -> Any:
    """The plain value at a dotted key, or `default` where there is none."""
    value = OmegaConf.select(config, key, default=default, throw_on_missing=False)
    return OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value


def _cross_faults(config: DictConfig) -> Iterator[str]:
    """Faults in how keys go together."""
    for key in map(str, config):
        if key not in KNOWN_KEYS:
            yield f"{key}: no such key at the top level"
    yield from _target_faults(config)
    yield from _split_faults(config)
    yield from _model_faults(config)
    yield from _trainer_faults(config)


KNOWN_KEYS = {
    "data", "model", "batching", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger",
    "seed", "test", "monitor", "monitor_mode", "steps_per_execution", "compile", "threads", "folder", "resume",
    "run", "split", "checkpoint", "accelerator", "input", "output", "overwrite", "batch_size", "images", "figure",
    "repetitions", "only", "folders",
}  # fmt: skip


def _target_faults(config: Any, path: str = "") -> Iterator[str]:
    """`_target_`s from packages that are not trusted: a config must not be able to run any code there is."""
    if isinstance(config, DictConfig):
        target = config.get("_target_") if "_target_" in config else None
        if target is not None and str(target).partition(".")[0] not in TRUSTED:
            yield (
                f"{path}._target_ must come from {', '.join(TRUSTED)}, got {target!r}; "
                "add your package to TRUSTED in src/mlplab/rules.py"
            )
        for key in map(str, config):
            if not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(config, key):
                yield from _target_faults(config[key], f"{path}.{key}".lstrip("."))


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


def has_folds(config: DictConfig) -> bool:
    """Whether the run is one of a cross-validation."""
    return select(config, "data.num_folds") is not None


def has_validation(config: DictConfig) -> bool:
    """Whether some samples are set apart for validation."""
    return has_folds(config) or bool(select(config, "data.val_fraction"))


def _model_faults(config: DictConfig) -> Iterator[str]:
    target, dropout = select(config, "model._target_"), select(config, "model.dropout")
    sizes = select(config, "model.hidden_sizes")
    if dropout is not None and (target in LINEAR or sizes == []):
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
    if "trainer" not in config:
        return
    trainer = config.trainer
    cores, devices = os.cpu_count() or 1, select(config, "trainer.devices")
    if trainer.get("accelerator") == "cpu" and isinstance(devices, int) and devices > cores:
        yield f"trainer.devices must be at most {cores}, the number of CPU cores here, got {devices}"
    if trainer.get("accumulate_grad_batches", 1) != 1:
        yield "trainer.accumulate_grad_batches is not supported; raise data.batch_size, which gives the same updates"
    if trainer.get("max_epochs") == -1 and trainer.get("max_steps", -1) == -1:
        name = str(select(config, "scheduler._target_")).rpartition(".")[2]
        if name not in ("constant", "Plateau") or select(config, "scheduler.warmup"):
            yield f"scheduler {name} must know the number of updates; set trainer.max_epochs or trainer.max_steps"
