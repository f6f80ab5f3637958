"""From config to the objects of a run: data module, classifier, Trainer with its callbacks and loggers."""

import functools
import inspect
import json
import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig

from mlplab.config.keys import has_validation, select
from mlplab.config.targets import resolved
from mlplab.errors import ConfigError, first_line
from mlplab.runs import passes
from mlplab.runs.instantiation import accepts, construct, make, plain

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from mlplab.data.module import DataModule
    from mlplab.data.types import Source
    from mlplab.models.classifier import Classifier


log = logging.getLogger(__name__)

UPDATES_WORTH_COMPILING = 150_000
"""compile=auto compiles from so many updates on: compiling takes about 15 s, and saves about 0.1 ms of an update."""


def data_module(config: DictConfig) -> "DataModule":
    """The data of a run: the source named in `data._target_`, split and batched as `data` says."""
    from mlplab.data.augment import Augmentation
    from mlplab.data.module import DataModule

    options = plain(config.data)
    common = {key: options.pop(key) for key in list(options) if key in inspect.signature(DataModule).parameters}
    augmentation = common.pop("augmentation", None) or {}
    accepts(Augmentation, augmentation, "data.augmentation")
    source = resolved(options, "data")
    accepts(source["_target_"], source, "data")
    module = DataModule(
        lambda: kept_source(json.dumps(options)) if is_multirun() else construct(source, "data"),
        **common,
        order_seed=config.get("seed") or 0,
        augmentation=Augmentation(**augmentation),
        max_batches=None,
    )
    passes.limit_updates(module, config)
    return module


@functools.lru_cache(maxsize=2)
def kept_source(options: str) -> "Source":
    """The data set of these options (JSON), kept in memory for the next job of a sweep; nothing writes into it."""
    return construct(resolved(json.loads(options), "data"), "data")


def is_multirun() -> bool:
    """Whether this process runs jobs of a sweep. Elsewhere the files of a data set may change between two uses."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def classifier(config: DictConfig, data: "DataModule") -> "Classifier":
    """The network, loss, optimizer and schedule of a run, fitted to the data's number of features and classes."""
    from mlplab.models.classifier import Classifier

    network = resolved(plain(config.model), "model")
    accepts(network["_target_"], network, "model", given=("num_features", "num_outputs"))
    model = Classifier(
        construct(network, "model", num_features=data.num_features, num_outputs=data.num_outputs),
        loss=make(config.loss, "loss"),
        make_optimizer=make(config.optimizer, "optimizer"),
        schedule=schedule(config),
        total_updates=total_updates(config, data),
        num_classes=data.num_classes,
        gradient_clip_norm=select(config, "trainer.gradient_clip_val"),
        monitor=config.monitor,
        compile_batch_size=data.batch_size if pays_to_compile(config, data) else None,
    )
    try:
        optimizer: Any = model.configure_optimizers()  # Lightning calls it again, but a wrong option should end here
    except (InstantiationException, TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {first_line(error.__cause__ or error)}") from error
    # One that evaluates the loss several times in an update asks for a function that does.
    if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
        raise ConfigError(f"optimizer._target_: {type(optimizer).__name__} is not supported; choose another")
    return model


def check_batch_norm(model: "Classifier", data: "DataModule") -> None:
    """Raise ConfigError where a batch of one sample would meet batch normalization, which needs two or more."""
    from torch.nn.modules.batchnorm import _BatchNorm

    if data.smallest_batch == 1 and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ConfigError(
            f"data.batch_size={data.batch_size} leaves a batch of one sample, which batch normalization cannot "
            "normalize; choose another data.batch_size or data.train_size, or model.normalization=layer"
        )


def pays_to_compile(config: DictConfig, data: "DataModule") -> bool:
    """Whether updates are compiled, as `compile` says; auto compares what it saves with what it costs."""
    import torch

    from mlplab.models.compiled import SMALL, has_compiler

    wanted, updates = select(config, "compile", False), total_updates(config, data)
    if wanted is False or (wanted == "auto" and updates < UPDATES_WORTH_COMPILING):
        return False
    if wanted == "auto" and data.batch_size * data.num_features >= SMALL:
        return False  # large batches gain nothing: the arithmetic takes the time, not the calls
    if wanted == "auto" and torch.cuda.is_available() and select(config, "trainer.accelerator") != "cpu":
        return False  # what compiling saves has been measured on CPUs only; compile=true does it
    if select(config, "trainer.strategy", "auto") != "auto" or select(config, "trainer.precision") == "16-mixed":
        if wanted is True:
            log.warning("compile=true is for one device without a loss scale; updates are not compiled")
        return False
    if not has_compiler():
        log.warning("compile=%s needs a C++ compiler (g++ or clang++), and none is found; not compiled", wanted)
        return False
    if wanted == "auto":
        log.info(
            "compile=auto: %s planned updates pay for the time of compiling; compile=false for none", f"{updates:,}"
        )
    return True


def schedule(config: DictConfig) -> Any:
    """The learning-rate schedule: an object, or a function with its options.

    Such a function is called at every update; Hydra's own partial would check its target anew at every call, which
    takes longer than the update of a small network.
    """
    options = resolved(plain(config.scheduler), "scheduler")
    if inspect.isclass(options["_target_"]):
        accepts(options["_target_"], options, "scheduler")
        return construct(options | {"_partial_": False}, "scheduler")
    accepts(options["_target_"], options, "scheduler", given=("update", "total"))
    named = {str(key): value for key, value in options.items() if not str(key).startswith("_")}
    return functools.partial(options["_target_"], **named)


def total_updates(config: DictConfig, data: "DataModule") -> int:
    """The planned number of updates, at least 1; where there is no limit, 1 (no schedule that needs it is allowed)."""
    limits = [config.trainer.max_steps, config.trainer.max_epochs * data.updates_per_epoch]
    return max(1, min((limit for limit in limits if limit > 0), default=1))


def trainer(config: DictConfig, data: "DataModule", more: Sequence["Callback"] = ()) -> "Trainer":
    """Lightning's Trainer with the callbacks and loggers of the config, and `more` callbacks."""
    import torch.utils.deterministic

    from mlplab.runs.checkpoints import SafeCheckpointIO

    # Filling every new tensor with NaN only shows who reads what was never written; nothing here does.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # What counts in updates is seen to by the data module and the classifier; Lightning counts passes.
    options: dict[str, Any] = {"gradient_clip_val": None, "limit_train_batches": 1.0}
    if select(config, "trainer.strategy") != "fsdp":  # which saves in parts, in its own way
        options["plugins"] = [SafeCheckpointIO()]
    interval = passes.val_check_updates(config, data)
    if interval < data.updates_per_epoch:
        options["val_check_interval"] = interval // data.group_size
    return make(
        config.trainer,
        "trainer",
        **options,
        default_root_dir=config.folder,
        callbacks=[*callbacks(config), *more],
        logger=loggers(config) or False,
        use_distributed_sampler=False,  # the loader shares batches out itself
        log_every_n_steps=1,
    )


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
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"accelerator={accelerator}: {first_line(error)}") from error


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

    chosen = []
    for name, options in config.callbacks.items():
        if options:
            moment = monitoring_moment(options) if has_validation(config) else {}
            wait = {"at_end": not is_multirun()} if options.get("at_end") == "auto" else {}
            chosen.append(make(options, f"callbacks.{name}", **moment, **wait))
    return [RequireMonitors(), *chosen]


def monitoring_moment(options: DictConfig) -> dict[str, bool]:
    """Options that make Lightning look at a monitored metric after every validation, not at the end of the epoch."""
    target = str(options["_target_"]).rpartition(".")[2]
    option = {"ModelCheckpoint": "save_on_train_epoch_end", "EarlyStopping": "check_on_train_epoch_end"}.get(target)
    return {option: False} if option and options.get("monitor") and option not in options else {}


def loggers(config: DictConfig) -> list["Logger"]:
    """The loggers of the config, none if there are none."""
    return [make(options, f"logger.{name}") for name, options in config.logger.items() if options]


def quiet_libraries() -> None:
    """Keep libraries' advice that does not apply here out of the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # torchmetrics has synchronised the values
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # it continues where it was
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
