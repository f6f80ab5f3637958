"""From config to the objects of a run, once: data module, classifier, Trainer with its callbacks and loggers.

The functions take the config of a run, or the plain data that it holds; all that they build takes plain values.
"""

import functools
import inspect
import json
import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.utils import deterministic

from mlplab.callbacks.averaging import WeightAveraging
from mlplab.callbacks.history import History
from mlplab.config.targets import SPECIAL, check_result, raised, resolved
from mlplab.data.augment import Augmentation
from mlplab.data.module import DataModule
from mlplab.data.sources import Source
from mlplab.errors import ConfigError, first_line, is_out_of_memory
from mlplab.models.classifier import Classifier
from mlplab.models.compiled import SMALL, has_compiler, is_small
from mlplab.models.linear import HAS_ONEDNN
from mlplab.runs.checkpoints import SafeCheckpointIO
from mlplab.runs.network import check_eps, check_images, check_outputs, computing_as, in_fast_numbers, number_type
from mlplab.runs.passes import Config, epoch_span, epochs_per_validation, group_size, share, total_updates

UPDATES_WORTH_COMPILING = 150_000
"""compile=auto compiles from so many updates on: compiling takes about 15 s, and saves about 0.1 ms of an update."""
THREADS = torch.get_num_threads()
PRODUCTS_WORTH_SHARING = 2 * 10**8
"""Several threads compute an update of so many weights × samples or more: else they wait as long as they save."""
AFTER_THE_EPOCH = {
    "BestCheckpoint": "save_on_train_epoch_end", "ModelCheckpoint": "save_on_train_epoch_end",
    "EarlyStopping": "check_on_train_epoch_end",
}  # fmt: skip
"""Options by which these look at their metric at the end of an epoch: only where no validation follows."""

log = logging.getLogger(__name__)


def make(options: Config, key: str, **more: Any) -> Any:
    """The object that a part of the config describes, after a look at what its targets are (see `config.targets`).

    `more` are further options. What the target refuses becomes a ConfigError that names the key.
    """
    described = resolved(plain(options), key)
    target = described["_target_"]
    if key in ("data", "model", "scheduler"):
        is_factor = key == "scheduler" and not inspect.isclass(target)  # a function of updates done and planned
        check_options(target, described, key, given=("update", "total") if is_factor else list(more))
        if is_factor:  # called at every update, where Hydra's own partial would take longer than a small network's
            return functools.partial(target, **{name: described[name] for name in described.keys() - SPECIAL})
        described.pop("_partial_", None)
    try:
        made = instantiate(described, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from error
        said = raised(cause)
        if is_out_of_memory(cause):
            said = f"out of memory; choose fewer or smaller samples, or lower model.hidden_sizes ({said})"
        raise ConfigError(f"{key}: {said}") from error
    if key in ("data", "model"):
        check_result(made, key)
    return made


def plain(options: Config) -> dict[str, Any]:
    """Plain data instead of a config, without interpolations, so that what is checked is what is built."""
    try:
        values: Any = OmegaConf.to_container(options, resolve=True) if isinstance(options, DictConfig) else options
    except OmegaConfBaseException as error:
        raise ConfigError(first_line(error)) from error
    return dict(values)


def check_options(target: Any, options: Config, key: str, *, given: Sequence[str] = ()) -> None:
    """Raise ConfigError for options that the target has no parameter for, or does without though it needs them."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    names = {name: parameters[name].default for name in parameters if name not in given}
    unknown = [name for name in options if name not in names and name not in SPECIAL]
    needed = [name for name, default in names.items() if default is inspect.Parameter.empty and name not in options]
    title = f"{target.__module__}.{target.__qualname__}"
    faults = [f"{key}.{name}: {title} has no such option; it has: {', '.join(names) or 'none'}" for name in unknown]
    faults += [f"{key}.{name} must be given: {title} needs it" for name in needed]
    if faults:
        raise ConfigError(*faults)


# Data


def data_module(config: Config) -> DataModule:
    """The data of a run: the source named in `data._target_`, split and batched as `data` says."""
    source = plain(config["data"])
    common = {key: source.pop(key) for key in list(source) if key in inspect.signature(DataModule).parameters}
    augmentation = common.pop("augmentation", None) or {}
    check_options(Augmentation, augmentation, "data.augmentation")
    module = DataModule(
        functools.partial(kept_source, json.dumps(source)) if is_multirun() else lambda: make(source, "data"),
        **common,
        order_seed=config.get("seed") or 0,
        augmentation=Augmentation(**augmentation),
    )
    options = config.get("trainer") or {}
    module.updates_per_epoch = share(options.get("limit_train_batches", 1.0), module.updates_per_epoch)
    interval = options.get("val_check_interval", 1.0)
    if interval > module.updates_per_epoch:
        raise ConfigError(
            f"trainer.val_check_interval must be at most {module.updates_per_epoch}, the updates of an epoch, "
            f"got {interval}; to validate less often set trainer.check_val_every_n_epoch"
        )
    module.span = epoch_span(config, module)
    module.group_size = group_size(config, module)
    return module


@functools.lru_cache(maxsize=2)
def kept_source(options: str) -> Source:
    """The data set of these options (JSON), kept in memory for the next job of a sweep; nothing writes into it."""
    return make(json.loads(options), "data")


def is_multirun() -> bool:
    """Whether this process runs jobs of a sweep. Elsewhere the files of a data set may change between two uses."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


# Network


def classifier(config: Config, data: DataModule) -> Classifier:
    """The network, loss, optimizer and schedule of a run, fitted to the data's number of features and classes."""
    check_images(config["model"], data.feature_shape)
    network = make(config["model"], "model", num_features=data.num_features, num_outputs=data.num_outputs)
    check_outputs(network, data)
    in_float32 = config["trainer"].get("precision", "32-true") in ("32-true", 32)
    is_fast = config.get("fast_layers", False) and in_float32 and not is_small(network)
    model = Classifier(
        computing_as(config, network),
        loss=make(config["loss"], "loss"),
        make_optimizer=make(optimizer_options(config), "optimizer"),
        schedule=make(config["scheduler"], "scheduler"),
        total_updates=total_updates(config, data),
        gradient_clip_norm=config["trainer"].get("gradient_clip_val"),
        monitor=config["monitor"],
        compile_batch_size=data.batch_size if pays_to_compile(config, data, is_fast=is_fast) else None,
        fast_layers=is_fast,
    )
    try:
        optimizer: Any = model.configure_optimizers()  # Lightning calls it again, but a wrong option should end here
    except (InstantiationException, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {first_line(error.__cause__ or error)}") from error
    if inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty:
        # It evaluates the loss several times in an update, and asks for a function that does.
        raise ConfigError(f"optimizer._target_: {type(optimizer).__name__} is not supported; choose another")
    check_eps(optimizer, config)
    return model


def optimizer_options(config: Config) -> Config:
    """What the config says of the optimizer; in half precision no fused step, which would unscale what is clipped."""
    options = plain(config["optimizer"])
    if config["trainer"].get("precision") in ("16-mixed", 16) and options.get("fused"):
        options["fused"] = False
    return options


def pays_to_compile(config: Config, data: DataModule, *, is_fast: bool = False) -> bool:
    """Whether updates are compiled, as `compile` says; auto compares what it saves with what it costs.

    On a CPU with wide vectors not those of a large network, which `fast_layers` makes faster.
    """
    asked, updates, options = config.get("compile", False), total_updates(config, data), config["trainer"]
    on_cpu = options.get("accelerator") == "cpu" or not torch.cuda.is_available()
    wanted = asked
    if asked == "auto":
        # In large batches the arithmetic takes the time, not the calls. Other devices have not been measured.
        has_small_batches = data.batch_size * data.num_features < SMALL
        wanted = on_cpu and has_small_batches and updates >= UPDATES_WORTH_COMPILING
    if not wanted:
        return False
    if on_cpu and is_fast and HAS_ONEDNN:
        log.info("compile=%s: so large a network is faster with fast_layers=true; not compiled", str(asked).lower())
        return False
    if not has_compiler():
        log.warning("compile=%s needs a C++ compiler (g++ or clang++), and none is found; not compiled", asked)
        return False
    if asked == "auto":
        log.info("compile=auto: %s planned updates are worth compiling; compile=false for none", f"{updates:,}")
    return True


def set_threads(config: Config, data: DataModule, model: Classifier) -> None:
    """As many CPU threads as asked for; by default one for short updates, where more only wait for each other."""
    products = data.batch_size * sum(parameter.numel() for parameter in model.network.parameters())
    auto = THREADS if products >= PRODUCTS_WORTH_SHARING else 1
    torch.set_num_threads(auto if config["threads"] == "auto" else config["threads"])


# Trainer


def trainer(config: Config, data: DataModule, more: Sequence[Callback] = ()) -> Trainer:
    """Lightning's Trainer with the callbacks and loggers of the config, and `more` callbacks."""
    # Filling every new tensor with NaN only shows who reads what was never written; nothing here does.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    max_epochs = config["trainer"]["max_epochs"]
    options: dict[str, Any] = {
        "default_root_dir": config["folder"],
        "callbacks": [*watchers(config, "callbacks", data), *more],
        "logger": watchers(config, "logger", data) or False,
        "use_distributed_sampler": False,  # the loader shares batches out itself
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "max_epochs": max_epochs if max_epochs < 0 else max_epochs // data.span,
        "check_val_every_n_epoch": epochs_per_validation(config, data) // data.span,
        # What counts in updates is seen to by the data module and the classifier; Lightning counts passes.
        "gradient_clip_val": None,
        "limit_train_batches": 1.0,
        "plugins": [SafeCheckpointIO()],
    }
    interval = share(config["trainer"].get("val_check_interval", 1.0), data.updates_per_epoch)
    options["val_check_interval"] = interval // data.group_size if interval < data.updates_per_epoch else 1.0
    if number_type(config) != torch.float32:
        options["precision"] = "32-true"  # the network sees to it
    if not config["trainer"].get("profiler"):
        options["profiler"] = unprofiled = PassThroughProfiler()
        unprofiled.profile = nullcontext  # type: ignore  # its own runs a generator at each hook of each callback
    return in_fast_numbers(make(config["trainer"], "trainer", **options), config["trainer"].get("precision"))


def watchers(config: Config, section: str, data: DataModule) -> list[Any]:
    """The callbacks, or loggers, of the config; a name that stands for nothing leaves one out."""
    made = []
    for name, options in config[section].items():
        if not options:
            continue
        more = {"at_end": not is_multirun()} if options.get("at_end") == "auto" else {}
        moment = AFTER_THE_EPOCH.get(options["_target_"].rpartition(".")[2])
        if moment and options.get("monitor"):
            more = {moment: options.get(moment, not len(data.datasets["val"]))}
        made.append(make(options, f"{section}.{name}", **more))
    # The history notes what others have measured; the average leaves the network when all have looked at it.
    return sorted(made, key=lambda one: (isinstance(one, WeightAveraging), isinstance(one, History)))


def evaluation_trainer(config: Config, *, accelerator: str) -> Trainer:
    """A Trainer that evaluates a run in its own precision: no callbacks, no loggers, one device."""
    quiet_libraries()
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options: dict[str, Any] = dict.fromkeys(off, False)
    precision: Any = (
        "32-true" if number_type(config) != torch.float32 else config["trainer"].get("precision", "32-true")
    )
    try:
        made = Trainer(accelerator=accelerator, devices=1, precision=precision, deterministic=True, **options)
        return in_fast_numbers(made, precision)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"accelerator={accelerator}: {first_line(error)}") from error


def quiet_libraries() -> None:
    """Keep libraries' advice that does not apply here out of the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # CUDA's tools without a GPU
    for message in (
        "isinstance.treespec, LeafSpec",
        "sync_dist=True",  # torchmetrics has synchronised the values
        "does not have many workers",
        "The `srun` command is available",
        "Total length of `list` across ranks is zero",  # of validation data, where none are wanted
        "AMP with fp16 is not supported on CPU",
        "is supported for historical reasons",
        "your dataloader is not resumable",  # it continues where it was
        "Checkpoint directory .* exists and is not empty",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}")
