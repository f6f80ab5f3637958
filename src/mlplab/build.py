"""From config to objects: the only place that instantiates, and the checks that need more than one key.

`config_faults` reads values only; it runs before torch is imported.
"""

import inspect
import logging
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from mlplab.checks import NULL, SWITCH, ConfigError, Rule, each, integer, number, one_of, text

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from mlplab.classifier import Classifier
    from mlplab.data.module import DataModule

TRUSTED = ("torch", "torchvision", "torchmetrics", "lightning", "mlplab")
"""Packages that a `_target_` may come from. Add the package of your own networks and data sets here."""

AUTO = one_of("auto")
FRACTION = number(least=0, below=1)
SHARE_OR_COUNT = Rule(
    "a fraction from 0.0 to 1.0 or an integer ≥ 0",
    lambda value: integer(0).holds(value) or (isinstance(value, float) and 0 <= value <= 1),
)

RULES: dict[str, Rule] = {
    "seed": NULL | integer(0, 2**32 - 1),
    "test": SWITCH,
    "monitor": text(),
    "monitor_mode": one_of("min", "max"),
    "steps_per_execution": AUTO | integer(1),
    "threads": AUTO | integer(1),
    "data.batch_size": one_of("full") | integer(1),
    "data.eval_batch_size": integer(1),
    "data.val_fraction": FRACTION,
    "data.test_fraction": FRACTION,
    "data.train_size": NULL | integer(1),
    "data.split_seed": integer(0),
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
    "batch_size": integer(1),
}
"""What each key of the config must be, where the config has it."""

LINEAR = ("mlplab.networks.Perceptron", "mlplab.networks.SoftmaxRegression")
FIXED_SIZE = ("digits", "cifar10", "mnist", "image_folder")


# Checks


def config_faults(config: DictConfig) -> list[str]:
    """One line for each fault that can be seen from the config alone."""
    missing = list(_missing(config))
    absent = object()
    faults = [f"{key} must be given: write {key}=…" for key in missing]
    for key, rule in RULES.items():
        value = select(config, key, absent)
        if value is not absent and key not in missing and (fault := rule.fault(key, value)):
            faults.append(fault)
    return faults + list(_cross_faults(config))


def _missing(config: DictConfig, path: str = "") -> Iterator[str]:
    """Keys whose value is ???, dotted."""
    for key in config:
        if OmegaConf.is_missing(config, key):
            yield f"{path}{key}"
        elif not OmegaConf.is_interpolation(config, str(key)) and isinstance(config[key], DictConfig):
            yield from _missing(config[key], f"{path}{key}.")


def select(config: DictConfig, key: str, default: Any = None) -> Any:
    """The plain value at a dotted key, or `default` where there is none."""
    value = OmegaConf.select(config, key, default=default, throw_on_missing=False)
    return OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value


def _cross_faults(config: DictConfig) -> Iterator[str]:
    """Faults in how keys go together."""
    for key in config:
        if key not in KNOWN_KEYS:
            yield f"{key}: no such key at the top level"
    yield from _target_faults(config)
    yield from _split_faults(config)
    yield from _model_faults(config)
    yield from _trainer_faults(config)


KNOWN_KEYS = {
    "data", "model", "batching", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger",
    "seed", "test", "monitor", "monitor_mode", "steps_per_execution", "threads", "folder",
    "run", "split", "checkpoint", "input", "output", "overwrite", "batch_size", "images", "figure", "accelerator",
}  # fmt: skip


def _target_faults(config: Any, path: str = "") -> Iterator[str]:
    """`_target_`s from packages that are not trusted: a config must not be able to run any code there is."""
    if isinstance(config, DictConfig):
        target = config.get("_target_") if "_target_" in config else None
        if target is not None and str(target).partition(".")[0] not in TRUSTED:
            yield (
                f"{path}._target_ must come from {', '.join(TRUSTED)}, got {target!r}; "
                "add your package to TRUSTED in src/mlplab/build.py"
            )
        for key in config:
            if not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(config, str(key)):
                yield from _target_faults(config[key], f"{path}.{key}".lstrip("."))


def _split_faults(config: DictConfig) -> Iterator[str]:
    val, test = select(config, "data.val_fraction"), select(config, "data.test_fraction")
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
        yield "trainer.accumulate_grad_batches is not supported: raise data.batch_size instead, which gives the same updates"
    if trainer.get("max_epochs") == -1 and trainer.get("max_steps", -1) == -1:
        name = str(select(config, "scheduler._target_")).rpartition(".")[2]
        if name not in ("constant", "Plateau") or select(config, "scheduler.warmup"):
            yield f"scheduler {name} must know the number of updates; set trainer.max_epochs or trainer.max_steps"


# Building


def data_module(config: DictConfig) -> "DataModule":
    """The data of a run: the source named in `data._target_`, split and batched as `data` says."""
    from mlplab.data.augment import Augmentation
    from mlplab.data.module import DataModule

    options = OmegaConf.to_container(config.data, resolve=True)
    assert isinstance(options, dict)
    common = {key: options.pop(key) for key in list(options) if key in inspect.signature(DataModule).parameters}
    augmentation = common.pop("augmentation", None)
    accepts(options, "data")
    module = DataModule(
        lambda: instantiate(options),
        **common,
        order_seed=config.get("seed") or 0,
        augmentation=Augmentation(**augmentation) if augmentation else None,
        max_batches=None,
    )
    limit_updates(module, config)
    return module


def limit_updates(module: "DataModule", config: DictConfig) -> None:
    """Apply `trainer.limit_train_batches` and `steps_per_execution`, both in updates, to the training loader."""
    limit = select(config, "trainer.limit_train_batches", 1.0)
    updates = module.updates_per_epoch
    module.updates_per_epoch = max(1, min(updates, limit if isinstance(limit, int) else int(limit * updates)))
    module.group_size = group_size(config, module)


def group_size(config: DictConfig, module: "DataModule") -> int:
    """How many updates share one pass through Lightning."""
    wanted = select(config, "steps_per_execution", 1)
    if select(config, "trainer.strategy") == "fsdp":
        return 1  # a sharded network gathers its weights once per pass
    if wanted == "auto":
        wanted = max(1, min(256, 2048 // module.batch_size))
    size = min(wanted, module.updates_per_epoch)
    interval = val_check_updates(config, module)
    while interval % size:
        size -= 1
    return size


def val_check_updates(config: DictConfig, module: "DataModule") -> int:
    """Updates between validations within an epoch; the epoch's number of updates where there is one validation."""
    interval = select(config, "trainer.val_check_interval", 1.0)
    updates = interval if isinstance(interval, int) else int(interval * module.updates_per_epoch)
    return max(1, min(updates, module.updates_per_epoch))


def classifier(config: DictConfig, data: "DataModule") -> "Classifier":
    """The network, loss, optimizer and schedule of a run, fitted to the data's number of features and classes."""
    from mlplab.classifier import Classifier

    accepts(config.model, "model", given=("num_features", "num_outputs"))
    return Classifier(
        instantiate(config.model, num_features=data.num_features, num_outputs=data.num_outputs, _convert_="all"),
        loss=instantiate(config.loss, _convert_="all"),
        make_optimizer=instantiate(config.optimizer, _convert_="all"),
        schedule=instantiate(config.scheduler, _convert_="all"),
        total_updates=total_updates(config, data),
        num_classes=data.num_classes,
        gradient_clip_norm=select(config, "trainer.gradient_clip_val"),
        monitor=config.monitor,
    )


def total_updates(config: DictConfig, data: "DataModule") -> int:
    """The planned number of updates, at least 1; where there is no limit, 1 (no schedule that needs it is allowed)."""
    limits = [config.trainer.max_steps, config.trainer.max_epochs * data.updates_per_epoch]
    return max(1, min((limit for limit in limits if limit > 0), default=1))


def trainer(config: DictConfig, data: "DataModule") -> "Trainer":
    """Lightning's Trainer with the callbacks and loggers of the config."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    # What counts in updates is seen to by the data module and the classifier; Lightning counts passes.
    options: dict[str, Any] = {"gradient_clip_val": None, "limit_train_batches": 1.0}
    interval = val_check_updates(config, data)
    if interval < data.updates_per_epoch:
        options["val_check_interval"] = interval // data.group_size
    try:
        return instantiate(
            config.trainer,
            **options,
            default_root_dir=config.folder,
            callbacks=callbacks(config),
            logger=loggers(config) or False,
            use_distributed_sampler=False,  # the loader shares batches out itself
            log_every_n_steps=1,
        )
    except Exception as error:  # Hydra wraps what the constructor raises
        cause = error.__cause__ or error
        if isinstance(cause, MisconfigurationException | ValueError | TypeError | RuntimeError):
            raise ConfigError(f"trainer: {str(cause).splitlines()[0]}") from error
        raise


def evaluation_trainer(config: DictConfig, *, accelerator: str) -> "Trainer":
    """A Trainer that evaluates a run in its own precision: no callbacks, no loggers, one device."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    quiet_libraries()
    try:
        return Trainer(
            accelerator=accelerator,
            devices=1,
            precision=select(config, "trainer.precision", "32-true"),
            deterministic=True,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except MisconfigurationException as error:
        raise ConfigError(f"accelerator={accelerator}: {str(error).splitlines()[0]}") from error


def set_threads(config: DictConfig, model: "Classifier") -> None:
    """As many CPU threads as asked for; by default one for small networks, where more only wait for each other."""
    import torch

    if config.threads != "auto":
        torch.set_num_threads(config.threads)
    elif sum(parameter.numel() for parameter in model.parameters()) < 50_000:
        torch.set_num_threads(1)


def callbacks(config: DictConfig) -> list["Callback"]:
    """The callbacks in the order of the config, and the guard against monitors that nobody logs."""
    from mlplab.callbacks.guards import RequireMonitors

    chosen = [instantiate(options, _convert_="all") for options in config.callbacks.values() if options]
    return [RequireMonitors(), *chosen]


def loggers(config: DictConfig) -> list["Logger"]:
    """The loggers of the config, none if there are none."""
    return [instantiate(options, _convert_="all") for options in config.logger.values() if options]


def accepts(options: Any, key: str, *, given: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for options that the `_target_` has no parameter for, or does without a needed one."""
    target = str(options["_target_"])
    try:
        found = get_class(target) if target.rpartition(".")[2][:1].isupper() else get_method(target)
        parameters = inspect.signature(found).parameters
    except Exception as error:
        raise ConfigError(f"{key}._target_: no {target} ({str(error).splitlines()[0]})") from error
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    names = [name for name in parameters if name not in given]
    unknown = [name for name in options if name not in names and not str(name).startswith("_")]
    needed = [name for name in names if parameters[name].default is inspect.Parameter.empty and name not in options]
    faults = [f"{key}.{name}: {target} has no such option; it has: {', '.join(names) or 'none'}" for name in unknown]
    faults += [f"{key}.{name} must be given: {target} needs it" for name in needed]
    if faults:
        raise ConfigError(*faults)


def quiet_libraries() -> None:
    """Keep libraries' advice that does not apply here out of the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # torchmetrics has synchronised the values
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
