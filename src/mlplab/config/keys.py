"""The one table of keys: what each must be, where a config has it, and what kind of key it is."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlplab.config.rules import AUTO, MAPPING, NULL, PATH, SWITCH, TEXT, Rule, each, integer, number, one_of

FRACTION = number(least=0, below=1)
SHARE = number(least=0, most=1)
POSITIVE = number(above=0)
COUNT, NATURAL = integer(1, 10**9), integer(0, 10**9)
SEED = integer(0, 2**32 - 1)
NAME = Rule("a text, which may be empty", lambda value: isinstance(value, str))
SHARE_OR_COUNT = Rule(
    "a fraction above 0.0 up to 1.0 or an integer ≥ 1",
    lambda value: COUNT.holds(value) or (isinstance(value, float) and 0 < value <= 1),
)
DURATION = Rule(
    "days:hours:minutes:seconds such as 00:00:10:00",
    lambda value: isinstance(value, str) and re.fullmatch(r"\d+:\d+:\d+:\d+", value) is not None,
)
RUNS = Rule(PATH.text, lambda value: PATH.holds(value) or each(PATH, empty=False).holds(value))
PICTURE = Rule(
    "a path on this machine that ends in .png, .jpg, .pdf or .svg",
    lambda value: PATH.holds(value) and value.lower().endswith((".png", ".jpg", ".pdf", ".svg")),
)
FOLDER_NAME = Rule(
    "a folder's name of up to 100 letters, digits and any of . _ + -, which begins with a letter or digit",
    lambda value: isinstance(value, str) and re.fullmatch(r"[^\W_][\w.+-]{,99}", value) is not None,
)

SECTIONS = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger")
"""The parts of a run's config. Each but the last two describes one object."""

KEYS: dict[Rule, str] = {
    MAPPING: " ".join(SECTIONS),
    NULL | MAPPING: "data.augmentation",
    SWITCH: """
        test overwrite fast_layers data.normalize data.cache optimizer.nesterov optimizer.amsgrad optimizer.centered
        optimizer.fused model.gabor_filters trainer.detect_anomaly trainer.inference_mode trainer.sync_batchnorm
        trainer.enable_progress_bar trainer.enable_model_summary callbacks.checkpoint.auto_insert_metric_name
        callbacks.checkpoint.enable_version_counter callbacks.gradient_noise.before_training
        logger.tensorboard.default_hp_metric
    """,
    NULL | SWITCH: "trainer.benchmark",
    SWITCH | COUNT: "model.cosine_transform",
    AUTO | SWITCH: "compile callbacks.figures.at_end",
    SWITCH | one_of("warn"): "trainer.deterministic",
    # how many, how often
    COUNT: """
        data.eval_batch_size batch_size trainer.num_nodes callbacks.update_monitor.every_n_updates
        callbacks.weight_averaging.every_n_updates callbacks.layers.num_samples
    """,
    AUTO | COUNT: """
        steps_per_execution trainer.check_val_every_n_epoch callbacks.figures.every callbacks.layers.every
    """,
    AUTO | integer(1, 1024): "threads",
    NULL | COUNT: "checkpoint.every_n_epochs checkpoint.every_n_updates",
    NULL | POSITIVE: "checkpoint.every_n_minutes trainer.gradient_clip_val",
    NATURAL: """
        scheduler.patience trainer.num_sanity_val_steps callbacks.early_stopping.patience
        callbacks.tensorboard.num_embedded
    """,
    integer(1): "n_trials",
    integer(1, 10**6): "repetitions",
    integer(0, 256): "data.num_workers",
    integer(4, 10**9): "data.num_samples",
    integer(2, 10**6): "data.num_classes",
    integer(2, 10**9): "callbacks.gradient_noise.num_batches",
    integer(10, 1000): "callbacks.figures.dpi",
    number(above=0, most=1000): "callbacks.progress_bar.draws_per_second",
    integer(-1, 10**9): "trainer.max_epochs",
    integer(0, 1): "callbacks.checkpoint.save_top_k",
    integer(-1, 10**12): "trainer.max_steps",
    NULL | NATURAL: "trainer.min_epochs",
    NULL | integer(0, 10**12): "trainer.min_steps",
    NULL | DURATION | MAPPING: "trainer.max_time",
    SHARE_OR_COUNT: """
        trainer.limit_train_batches trainer.limit_val_batches trainer.limit_test_batches trainer.val_check_interval
    """,
    # seeds, splits and batches
    SEED: "data.seed data.split_seed",
    NULL | SEED: "seed",
    one_of("full") | integer(1): "data.batch_size",
    NULL | integer(1): "data.train_size",
    NULL | integer(2): "data.num_folds",
    NULL | integer(0): "data.fold",
    # shapes
    each(integer(1, 10**7)): "model.hidden_sizes",
    integer(1, 10**7): "model.width",
    integer(1, 10**5): "model.depth model.expansion",
    integer(0, 10**5): "data.augmentation.crop",
    NULL | integer(1, 10**5) | each(integer(1, 10**5), length=2): "data.size",
    one_of(None, 1, 3, 4): "data.channels",
    AUTO | COUNT | each(NATURAL, empty=False): "trainer.devices",
    # parts, rates and other real numbers
    FRACTION: """
        data.val_fraction data.test_fraction data.augmentation.translate loss.label_smoothing optimizer.momentum
        scheduler.warmup model.input_dropout callbacks.weight_averaging.decay
    """,
    FRACTION | each(FRACTION): "model.dropout",
    SHARE: """
        data.label_noise data.augmentation.flip optimizer.dampening optimizer.alpha optimizer.rho scheduler.final
        scheduler.start checkpoint.max_share
    """,
    each(SHARE): "scheduler.milestones",
    number(above=0, most=1): "scheduler.gamma callbacks.gradient_noise.max_share",
    POSITIVE: "optimizer.lr optimizer.eps",
    number(least=0): "optimizer.weight_decay optimizer.lr_decay callbacks.early_stopping.min_delta",
    Rule("two numbers, each ≥ 0 and < 1", each(FRACTION, length=2).holds): "optimizer.betas",
    number(least=0, most=180): "data.augmentation.rotate",
    number(least=0, most=0.5): "data.augmentation.mixup",
    number(least=0, most=1e6): "data.noise",
    number(least=-1e6, most=1e6): "data.turns",
    # one of several
    one_of("min", "max"): "monitor_mode scheduler.mode callbacks.checkpoint.mode callbacks.early_stopping.mode",
    one_of("train", "val", "test"): "split",
    one_of("train", "test", "all"): "images",
    one_of(None, "flip", "shift", "flip_and_shift"): "views",
    one_of("best", "last") | MAPPING: "checkpoint",  # of eval.py; train.py has keys of that name
    one_of("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"): "model.activation",
    one_of("none", "batch", "layer"): "model.normalization",
    one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"): "trainer.accelerator",
    one_of("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", 32, 16, 64): "trainer.precision",
    one_of(None, "norm"): "trainer.gradient_clip_algorithm",
    one_of(None, "simple", "advanced", "pytorch") | MAPPING: "trainer.profiler",
    # names and paths
    TEXT: """
        monitor accelerator callbacks.early_stopping.monitor callbacks.last_checkpoint.dirpath
        logger.tensorboard.save_dir
    """,
    NULL | TEXT: "storage callbacks.checkpoint.dirpath callbacks.checkpoint.filename callbacks.checkpoint.monitor",
    TEXT | MAPPING: "trainer.strategy",
    each(TEXT): "overrides search.overrides",
    NULL | each(TEXT): "only data.columns",
    TEXT | NATURAL: "data.label",
    NULL | NAME: "logger.tensorboard.name",
    NULL | NAME | NATURAL: "logger.tensorboard.version",
    NULL | FOLDER_NAME: "name sweep",
    PATH: "input output data.root data.path",
    RUNS: "run",  # several for report.py
    NULL | PATH: "resume into",
    NULL | PICTURE: "figure",
}
"""Rule → the dotted keys that it is for."""

RULES = {key: rule for rule, keys in KEYS.items() for key in keys.split()}
RULES |= {f"callbacks.last_{key}": rule for key, rule in RULES.items() if key.startswith("checkpoint.")}

TOP_LEVEL = {key.partition(".")[0] for key in RULES} | {"folder", "study", "pruner", "sweep_overwrite"}
"""What a config may have at its top level; the last is in run folders of earlier versions."""

COMPUTED = ("steps_per_execution", "data.num_workers", "checkpoint", "callbacks.last_checkpoint")
"""Keys and sections that change how a run is computed and saved, not a bit of what comes out."""

SHOWN = (
    "folder", "name", "resume", "sweep", "study", "test", "logger", "figures", "hydra", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "callbacks.checkpoint", "callbacks.figures", "callbacks.gradient_noise",
    "callbacks.history", "callbacks.layers", "callbacks.network_summary", "callbacks.progress_bar",
    "callbacks.tensorboard", "callbacks.update_monitor", "trainer.num_sanity_val_steps",
)  # fmt: skip
"""Keys and sections that say where a run is written and what is shown of it."""

CHOOSING = ("callbacks.checkpoint.mode", "callbacks.checkpoint.monitor", "callbacks.checkpoint.save_top_k")
"""Keys within these that decide all the same what comes out: the weights that are tested."""


def require(key: str, value: Any) -> None:
    """Raise ConfigError when the value breaks the rule of its key."""
    RULES[key].require(key, value)


def kind_of(key: str) -> str:
    """ "numbers" where a dotted key decides what comes out of a run, else "computed" or "shown"."""
    for kind, names in (("numbers", CHOOSING), ("computed", COMPUTED), ("shown", SHOWN)):
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
