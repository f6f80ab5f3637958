"""What each key of the config must be, where the config has it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlplab.config.rules import NULL, SWITCH, Rule, each, integer, local_path, mapping, number, one_of, text

AUTO = one_of("auto")
FRACTION = number(least=0, below=1)
SHARE = number(least=0, most=1)
COUNT = integer(1, 10**9)
SEED = integer(0, 2**32 - 1)
SHARE_OR_COUNT = Rule(
    "a fraction above 0.0 up to 1.0 or an integer ≥ 1",
    lambda value: COUNT.holds(value) or (isinstance(value, float) and 0 < value <= 1),
)
NAME = Rule("a text, which may be empty", lambda value: isinstance(value, str))
DURATION = Rule(
    "days:hours:minutes:seconds such as 00:00:10:00",
    lambda value: isinstance(value, str) and re.fullmatch(r"\d+:\d+:\d+:\d+", value) is not None,
)
BETAS = Rule("two numbers, each ≥ 0 and < 1", lambda value: each(FRACTION).holds(value) and len(value) == 2)
PICTURE = Rule(
    "a path on this machine that ends in .png, .jpg, .pdf or .svg",
    lambda value: local_path().holds(value) and value.lower().endswith((".png", ".jpg", ".pdf", ".svg")),
)

FOLDER_NAME = Rule(
    "a folder's name of letters, digits and any of . _ + -, which begins with a letter or digit",
    lambda value: isinstance(value, str) and re.fullmatch(r"[^\W_][\w.+-]*", value) is not None,
)

RULES: dict[str, Rule] = {
    "seed": NULL | SEED,
    "sweep": NULL | FOLDER_NAME,
    "sweep_overwrite": SWITCH,
    "test": SWITCH,
    "monitor": text(),
    "monitor_mode": one_of("min", "max"),
    "steps_per_execution": AUTO | COUNT,
    "threads": AUTO | integer(1, 1024),
    "compile": AUTO | SWITCH,
    "data": mapping(),
    "data.batch_size": one_of("full") | integer(1),
    "data.eval_batch_size": COUNT,
    "data.val_fraction": FRACTION,
    "data.test_fraction": FRACTION,
    "data.train_size": NULL | integer(1),
    "data.split_seed": SEED,
    "data.num_folds": NULL | integer(2),
    "data.fold": NULL | integer(0),
    "data.normalize": SWITCH,
    "data.num_workers": integer(0, 256),
    "data.num_samples": integer(4, 10**9),
    "data.num_classes": integer(2, 10**6),
    "data.noise": number(least=0, most=1e6),
    "data.label_noise": SHARE,
    "data.turns": number(least=-1e6, most=1e6),
    "data.seed": SEED,
    "data.root": local_path(),
    "data.cache": SWITCH,
    "data.size": NULL | integer(1, 10**5) | each(integer(1, 10**5), length=2),
    "data.channels": one_of(None, 1, 3, 4),
    "data.augmentation": NULL | mapping(),
    "data.augmentation.flip": SHARE,
    "data.augmentation.crop": integer(0, 10**5),
    "data.augmentation.translate": FRACTION,
    "data.augmentation.rotate": number(least=0, most=180),
    "model": mapping(),
    "model.hidden_sizes": each(integer(1, 10**7)),
    "model.dropout": FRACTION | each(FRACTION),
    "model.activation": one_of("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"),
    "model.normalization": one_of("none", "batch", "layer"),
    "model.width": integer(1, 10**7),
    "model.depth": integer(1, 10**5),
    "model.expansion": integer(1, 10**5),
    "loss": mapping(),
    "loss.label_smoothing": FRACTION,
    "optimizer": mapping(),
    "optimizer.lr": number(above=0),
    "optimizer.weight_decay": number(least=0),
    "optimizer.momentum": FRACTION,
    "optimizer.nesterov": SWITCH,
    "optimizer.dampening": SHARE,
    "optimizer.betas": BETAS,
    "optimizer.eps": number(above=0),
    "optimizer.alpha": SHARE,
    "optimizer.rho": SHARE,
    "optimizer.lr_decay": number(least=0),
    "optimizer.amsgrad": SWITCH,
    "optimizer.centered": SWITCH,
    "scheduler": mapping(),
    "scheduler.warmup": FRACTION,
    "scheduler.final": SHARE,
    "scheduler.start": SHARE,
    "scheduler.gamma": number(above=0, most=1),
    "scheduler.milestones": each(SHARE),
    "scheduler.patience": integer(0, 10**9),
    "scheduler.mode": one_of("min", "max"),
    "trainer": mapping(),
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "trainer.devices": AUTO | COUNT | each(integer(0, 10**9), empty=False),
    "trainer.num_nodes": COUNT,
    "trainer.strategy": text() | mapping(),
    "trainer.precision": one_of("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", 32, 16, 64),
    "trainer.max_epochs": integer(-1, 10**9),
    "trainer.min_epochs": NULL | integer(0, 10**9),
    "trainer.max_steps": integer(-1, 10**12),
    "trainer.min_steps": NULL | integer(0, 10**12),
    "trainer.max_time": NULL | DURATION | mapping(),
    "trainer.gradient_clip_val": NULL | number(above=0),
    "trainer.gradient_clip_algorithm": one_of(None, "norm"),
    "trainer.check_val_every_n_epoch": COUNT,
    "trainer.limit_train_batches": SHARE_OR_COUNT,
    "trainer.limit_val_batches": SHARE_OR_COUNT,
    "trainer.limit_test_batches": SHARE_OR_COUNT,
    "trainer.val_check_interval": SHARE_OR_COUNT,
    "trainer.num_sanity_val_steps": integer(0, 10**9),
    "trainer.deterministic": SWITCH | one_of("warn"),
    "trainer.benchmark": NULL | SWITCH,
    "trainer.detect_anomaly": SWITCH,
    "trainer.inference_mode": SWITCH,
    "trainer.sync_batchnorm": SWITCH,
    "trainer.enable_progress_bar": SWITCH,
    "trainer.enable_model_summary": SWITCH,
    "trainer.profiler": one_of(None, "simple", "advanced", "pytorch") | mapping(),
    "callbacks": mapping(),
    "callbacks.checkpoint.dirpath": NULL | text(),
    "callbacks.checkpoint.filename": NULL | text(),
    "callbacks.checkpoint.monitor": NULL | text(),
    "callbacks.checkpoint.mode": one_of("min", "max"),
    "callbacks.checkpoint.save_top_k": integer(-1, 10**9),
    "callbacks.checkpoint.auto_insert_metric_name": SWITCH,
    "callbacks.checkpoint.enable_version_counter": SWITCH,
    "callbacks.last_checkpoint.dirpath": text(),
    "callbacks.last_checkpoint.every_n_epochs": NULL | COUNT,
    "callbacks.last_checkpoint.every_n_updates": NULL | COUNT,
    "callbacks.last_checkpoint.every_n_minutes": NULL | number(above=0),
    "callbacks.last_checkpoint.max_share": SHARE,
    "callbacks.early_stopping.patience": integer(0, 10**9),
    "callbacks.early_stopping.min_delta": number(least=0),
    "callbacks.early_stopping.monitor": text(),
    "callbacks.early_stopping.mode": one_of("min", "max"),
    "callbacks.figures.every": AUTO | COUNT,
    "callbacks.figures.max_share": SHARE,
    "callbacks.figures.dpi": integer(10, 1000),
    "callbacks.tensorboard.num_embedded": integer(0, 10**9),
    "callbacks.layers.every": AUTO | COUNT,
    "callbacks.progress_bar.draws_per_second": number(above=0, most=1000),
    "callbacks.update_monitor.every_n_updates": COUNT,
    "callbacks.gradient_noise.num_batches": integer(2, 10**9),
    "callbacks.gradient_noise.max_share": number(above=0, most=1),
    "callbacks.gradient_noise.before_training": SWITCH,
    "callbacks.figures.at_end": AUTO | SWITCH,
    "logger": mapping(),
    "logger.tensorboard.save_dir": text(),
    "logger.tensorboard.name": NULL | NAME,
    "logger.tensorboard.version": NULL | NAME | integer(0, 10**9),
    "logger.tensorboard.default_hp_metric": SWITCH,
    "logger.csv.save_dir": text(),
    "logger.csv.name": NULL | NAME,
    "logger.csv.version": NULL | NAME | integer(0, 10**9),
    "checkpoint.every_n_epochs": NULL | COUNT,
    "checkpoint.every_n_updates": NULL | COUNT,
    "checkpoint.every_n_minutes": NULL | number(above=0),
    "checkpoint.max_share": SHARE,
    "resume": NULL | local_path(),
    "split": one_of("train", "val", "test"),
    "checkpoint": one_of("best", "last") | mapping(),  # train.py has keys of that name
    "accelerator": text(),
    "run": local_path(),
    "input": local_path(),
    "output": local_path(),
    "overwrite": SWITCH,
    "images": one_of("train", "test", "all"),
    "figure": NULL | PICTURE,
    "folders": each(local_path(), empty=False),
    "into": NULL | local_path(),
    "repetitions": integer(1, 10**6),
    "name": FOLDER_NAME,
    "n_trials": integer(1),
    "overrides": each(text()),
    "search.overrides": each(text()),
    "pruner.name": text(),
    "storage": NULL | text(),
    "only": NULL | each(text()),
    "batch_size": COUNT,
}
"""Dotted key → rule."""

SET_BY_MLPLAB = (
    "trainer.default_root_dir", "trainer.logger", "trainer.callbacks", "trainer.plugins", "trainer.model_registry",
    "trainer.enable_checkpointing", "trainer.use_distributed_sampler", "trainer.log_every_n_steps",
    "trainer.overfit_batches", "trainer.fast_dev_run", "trainer.barebones", "trainer.enable_autolog_hparams",
    "trainer.reload_dataloaders_every_n_epochs", "trainer.limit_predict_batches",
)  # fmt: skip
"""Options of Lightning's Trainer that have another place here, or none."""

TOP_LEVEL = {
    "data", "model", "batching", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger",
    "seed", "test", "monitor", "monitor_mode", "steps_per_execution", "compile", "threads", "folder", "resume",
    "run", "split", "checkpoint", "accelerator", "input", "output", "overwrite", "batch_size", "images", "figure",
    "repetitions", "only", "folders", "into", "study", "sweep", "sweep_overwrite",
    "name", "n_trials", "overrides", "storage", "search", "pruner",
}  # fmt: skip
"""What a config may have at its top level."""


COMPUTED = ("steps_per_execution", "data.num_workers", "data.eval_batch_size", "checkpoint")
"""Keys and sections that change how a run is computed and saved, not a bit of what comes out."""

SHOWN = (
    "folder", "resume", "sweep", "study", "test", "logger", "figures", "hydra", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "callbacks.checkpoint", "callbacks.figures", "callbacks.gradient_noise",
    "callbacks.history", "callbacks.last_checkpoint", "callbacks.layers", "callbacks.network_summary",
    "callbacks.progress_bar", "callbacks.tensorboard", "callbacks.update_monitor",
)  # fmt: skip
"""Keys and sections that say where a run is written and what is shown of it."""


def kind_of(key: str) -> str:
    """ "numbers" where a dotted key decides what comes out of a run, else "computed" or "shown"."""
    for kind, names in (("computed", COMPUTED), ("shown", SHOWN)):
        if any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in names):
            return kind
    return "numbers"


def flat(config: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    """`{"data": {"batch_size": 8}}` as `{"data.batch_size": 8}`; lists and empty sections are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) and value else {f"{path}{key}": value}
    return found


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of flat configs that are not in all of them with the same value, in the order of the configs."""
    absent = object()
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(config.get(key, absent) != configs[0].get(key, absent) for config in configs)]


def require(key: str, value: Any) -> None:
    """Raise ConfigError when the value breaks the rule of its key."""
    RULES[key].require(key, value)
