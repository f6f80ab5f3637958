"""Bad input on every command: exit code 2, one line for each fault that says what to do, no traceback, nothing left.

The commands run in this process, through the function that a program's `main` is. `BAD` is written by hand; beside it
every key of the composed config is given values of wrong types and sizes.
"""

import contextlib
import copy
import functools
import importlib.util
import io
import logging
import math
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlplab.config.check import CONF, config_faults
from mlplab.config.keys import RULES, flat
from mlplab.errors import ConfigError
from mlplab.runs import build

pytestmark = pytest.mark.filterwarnings("ignore")

PROGRAMS = {"train": "train.py", "eval": "eval.py", "benchmark": "scripts/benchmark/__main__.py"}
"""Command → its file; the others are in scripts/."""

BAD = {  # command → arguments → what the error must name
    "train": {
        # data
        "++data=3": "data",
        "data.batch_size=851": "data.batch_size must be at most 700",
        "data.batch_size=null": "data.batch_size",
        "data.batch_size=[32]": "data.batch_size",
        "data.batch_size=''": "data.batch_size",
        "data.batch_size=FULL": "'full'",
        "data.eval_batch_size=full": "data.eval_batch_size",
        "data.val_fraction=0.9 data.test_fraction=0.2": "below 1, got 0.9 + 0.2",
        "data.val_fraction=0.0001": "less than one sample",
        "data.train_size=701": "data.train_size must be at most 700",
        "data.num_samples=3": "integer from 4",
        "data.num_samples=1e3": "data.num_samples",
        "data.num_samples=1000000000000": "data.num_samples",
        "data.seed=-1": "data.seed",
        "data.split_seed=5000000000": "data.split_seed",
        "data.normalize=2": "data.normalize",
        "data.num_workers=-1": "data.num_workers",
        "data.num_workers=9999": "data.num_workers",
        "data=moons data.noise=-1": "data.noise",
        "data=moons data.noise=1e300": "data.noise",
        "data=spirals data.num_classes=1": "data.num_classes",
        "data=spirals data.turns=inf": "data.turns",
        "data=spirals data.num_samples=4 data.num_classes=9": "",
        "data=noise_images data.size=0": "data.size",
        "data=noise_images data.size=50000": "needs about",
        "data=noise_images data.channels=2": "data.channels",
        "data=image_folder": "data.root must be given",
        "data=image_folder data.root=nowhere": "no folder nowhere/train",
        "data=image_folder data.root=''": "data.root",
        "data=image_folder data.root=https://a.b/c": "download a URL first",
        "data=image_folder data.root=. data.size=[8]": "data.size",
        "data=image_folder data.root=. data.cache=maybe": "data.cache",
        "data=cifar10 data.root=s3://bucket": "data.root",
        "data=mnist data.root=[a]": "data.root",
        "data._target_=mlplab.data.sources.passings": "no mlplab.data.sources.passings",
        "data._target_=os.getcwd": "data._target_ must come from",
        "data._target_=mlplab.files.now": "data._target_ must be",
        "++data.colour=red": "data.colour: mlplab.data.sources.passing has no such option",
        "~data.label_noise": "data.label_noise must be given",
        "++data.augmentation=3": "data.augmentation",
        "++data.augmentation.zoom=2": "data.augmentation.zoom",
        "data.augmentation.flip=0.5": "data.augmentation needs images",
        "data.augmentation.rotate=181": "data.augmentation.rotate",
        "data.augmentation.crop=1.5": "data.augmentation.crop",
        "data=digits data.augmentation.mixup=0.5 data.batch_size=1": "data.augmentation.mixup=0.5 needs batches of two",
        "data=digits data.augmentation.mixup=0.5 model=perceptron": "mixup has no meaning for the perceptron criterion",
        "data.num_folds=1": "data.num_folds",
        "data.fold=0": "data.num_folds",
        "data.num_folds=5 data.fold=5": "data.fold must be below",
        # model, loss
        "model.hidden_sizes=[]": "",
        "model.hidden_sizes=[16]": "",
        "model.hidden_sizes=16": "model.hidden_sizes",
        "model.hidden_sizes=[16,-8]": "model.hidden_sizes",
        "model.hidden_sizes=[16,nan]": "model.hidden_sizes",
        "model.hidden_sizes=[16,[8]]": "model.hidden_sizes",
        "model=mlp_sequential model.hidden_sizes=[9999999,9999999]": "needs about",
        "model.dropout=1": "model.dropout",
        "model.dropout=[0.1,0.1,0.1]": "one per hidden layer",
        "model=mlp_sequential model.activation=rellu": "model.activation",
        "model=mlp_sequential model.normalization=group": "model.normalization",
        "model=mlp_sequential model.normalization=batch data.batch_size=1": "batch of one sample",
        "model=mlp_residual model.depth=0": "model.depth",
        "++model.depth=3": "model.depth: mlplab.models.networks.MLP has no such option",
        "model._target_=mlplab.models.networks.MPL": "no mlplab.models.networks.MPL",
        "model._target_=torch.nn.Linear": "model.",
        "model._target_=3": "model._target_",
        "++model._args_=[3]": "model._args_ is not supported",
        "++model._partial_=true": "model._partial_",
        "loss.label_smoothing=1": "loss.label_smoothing",
        "++loss.weight=3": "loss",
        "model=perceptron ++loss.label_smoothing=0.1": "loss.label_smoothing",
        # optimizer, scheduler
        "optimizer.lr=1e400": "optimizer.lr",
        "optimizer.lr=''": "optimizer.lr",
        "optimizer.lr=0,1": "-m",
        "optimizer.lr=[0.1]": "optimizer.lr",
        "~optimizer.lr": "optimizer.lr must be given",
        "optimizer.weight_decay=nan": "optimizer.weight_decay",
        "optimizer=momentum optimizer.momentum=1": "optimizer.momentum",
        "++optimizer.nesterov=true": "Nesterov momentum requires",
        "optimizer=adam ++optimizer.betas=[0.9]": "optimizer.betas",
        "optimizer=adam ++optimizer.betas=[0.9,1.0]": "optimizer.betas",
        "optimizer=adam ++optimizer.eps=0": "optimizer.eps",
        "++optimizer.speed=3": "unexpected keyword argument 'speed'",
        "optimizer._partial_=false": "optimizer._partial_ must be true",
        "optimizer._target_=torch.optim.LBFGS ~optimizer.weight_decay": "LBFGS is not supported",
        "scheduler.warmup=1": "scheduler.warmup",
        "scheduler=step scheduler.milestones=0.5": "scheduler.milestones",
        "scheduler=step scheduler.milestones=[0.5,1.5]": "scheduler.milestones",
        "scheduler=step scheduler.gamma=0": "scheduler.gamma",
        "scheduler=plateau scheduler.mode=up": "scheduler.mode",
        "scheduler=plateau scheduler.patience=-1": "scheduler.patience",
        "++scheduler.final=0.1": "scheduler.final",
        "scheduler._target_=torch.optim.lr_scheduler.StepLR": "scheduler._target_",
        # trainer
        "trainer.max_epochs=-2": "trainer.max_epochs",
        "trainer.max_epochs=null": "trainer.max_epochs",
        "trainer.max_epochs=1e9": "trainer.max_epochs",
        "trainer.max_time=10": "days:hours:minutes:seconds",
        "trainer.devices=0": "trainer.devices",
        "trainer.devices=99999": "trainer.devices must be at most",
        "trainer.devices=[]": "trainer.devices",
        "trainer.accelerator=abacus": "trainer.accelerator",
        "++trainer.strategy=ddpp": "invalid strategy",
        "++trainer.strategy=3": "trainer.strategy",
        "trainer.precision=8": "trainer.precision",
        "trainer.deterministic=maybe": "trainer.deterministic",
        "trainer.val_check_interval=1.5": "trainer.val_check_interval",
        "trainer.limit_val_batches=0": "trainer.limit_val_batches",
        "++trainer.profiler=fast": "trainer.profiler",
        "++trainer.plugins=[]": "decided by mlplab",
        "++trainer.logger=false": "decided by mlplab",
        "++trainer.fast_dev_run=true": "decided by mlplab",
        "++trainer.epochs=3": "unexpected keyword argument 'epochs'",
        "++trainer.gradient_clip_algorithm=value": "trainer.gradient_clip_algorithm",
        "++trainer.accumulate_grad_batches=2": "data.batch_size",
        # callbacks, loggers
        "++callbacks.figures=3": "callbacks.figures must be",
        "++callbacks.extra._target_=lightning.pytorch.callbacks.Nothing": "callbacks.extra._target_",
        "++callbacks.extra._target_=mlplab.models.networks.MLP": "callbacks.extra._target_ must be a Callback",
        "++callbacks.figures.colour=red": "callbacks.figures",
        "callbacks.checkpoint.save_top_k=-2": "callbacks.checkpoint.save_top_k",
        "callbacks.checkpoint.dirpath=/elsewhere": "must lie in the run folder",
        "callbacks.checkpoint.filename=../best": "must lie in the run folder",
        "callbacks.update_monitor.every_n_updates=0": "every_n_updates",
        "regularization=early_stopping callbacks.early_stopping.mode=up": "callbacks.early_stopping.mode",
        "regularization=weight_averaging trainer=fsdp": "callbacks.weight_averaging needs whole networks",
        "++callbacks.x._target_=lightning.pytorch.callbacks.EMAWeightAveraging": "callbacks.x would average after",
        "logger.tensorboard.save_dir=/elsewhere": "must lie in the run folder",
        "++logger.tensorboard.colour=red": "logger.tensorboard.colour: no such option",
        "++logger.wandb._target_=lightning.pytorch.loggers.WandbLogger": "logger.wandb._target_",
        "logger.tensorboard.version=[1]": "logger.tensorboard.version",
        "monitor=val/auc": "monitor=val/auc is never logged",
        "monitor=[]": "monitor",
        # everything else
        "seed=4294967296": "seed",
        "seed=zero": "seed",
        "test=1": "test",
        "threads=0": "threads",
        "threads=100000": "threads",
        "compile=yes_please": "compile",
        "steps_per_execution=0": "steps_per_execution",
        "checkpoint.every_n_updates=0": "checkpoint.every_n_updates",
        "checkpoint.max_share=2": "checkpoint.max_share",
        "resume=nowhere": "no run nowhere",
        "resume=https://a.b/c": "download a URL first",
        "seed=${oc.env:NOT_SET_ANYWHERE}": "NOT_SET_ANYWHERE",
        "seed=${nothing}": "nothing",
        "+note=hello": "note: no such key",
        "hydra.run.dir=": "hydra.run.dir must name a folder",
        "+data._target_=a": "data._target_",
        "mode=fast": "mode: no such key",
    },
    "eval": {
        "split=val": "run must be given",
        "run=''": "run",
        "run=https://a.b/c": "download a URL first",
        "run=[a]": "run",
        "run=nowhere split=all": "split",
        "run=nowhere checkpoint=newest": "checkpoint",
        "run=nowhere": "no run nowhere",
        "run=nowhere views=mirror": "views",
        "run=.": "not a run folder",
        "run=nowhere accelerator=3": "accelerator",
    },
    "predict": {
        "run=a": "input must be given",
        "run=a input=https://a.b/c": "input",
        "run=a input=b output=''": "output",
        "run=a input=b overwrite=perhaps": "overwrite",
        "run=a input=b batch_size=0": "batch_size",
        "run=a input=b output=.": "output=. is a folder",
        "run=a input=b output=no/such/x.csv": "not a folder",
        "run=http://a/b input=b": "run",
        "run=nowhere input=b": "no run nowhere",
        "run=a input=file:///etc/passwd": "input must be a path on this machine (download a URL first)",
        "run=a input=b output=s3://bucket/x": "output must be a path on this machine (download a URL first)",
        "run=a input=b checkpoint=1": "checkpoint",
    },
    "report": {
        "run=nowhere": "no run nowhere",
        "run=[]": "run must be",
        "run=[https://a.b]": "run must be",
        "run=[no/where]": "no/where",
        "run=[3]": "run must be",
    },
    "benchmark": {
        "repetitions=0": "repetitions",
        "only=[nothing]": "names no workload",
        "only=passing": "only",
        "output=''": "output",
        "output=ftp://x": "output",
    },
    "tune": {
        "n_trials=0": "n_trials",
        "n_trials=many": "n_trials",
        "search=nothing": "search=nothing: no such choice",
        "pruner=nothing": "pruner=nothing: no such choice",
        "name=../elsewhere": "name must be",
        "overrides=3": "overrides",
    },
    "inspect_data": {
        "figure=https://a.b/c.png": "figure",
        "figure=samples.txt": "figure",
        "figure=no/such/x.png": "no/such: No such file or directory",
        "data.batch_size=0": "data.batch_size",
        "data=digits data.val_fraction=2": "data.val_fraction",
        "seed=-1": "seed",
    },
    "mean_brightness": {
        "images=some": "images",
        "batch_size=0": "batch_size",
        "data=moons figure=null": "data must be images",
        "images=test figure=null": "no official test set",
        "figure=[]": "figure",
        "data=image_folder": "data.root must be given",
    },
}
CASES = [(name, line, part) for name, lines in BAD.items() for line, part in lines.items()]


@functools.cache
def program(name):
    """The function `main` of a command's file."""
    path = CONF.parent / PROGRAMS.get(name, f"scripts/{name}.py")
    spec = importlib.util.spec_from_file_location(f"program_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def enter(monkeypatch, tmp_path):
    """Run a command in an empty folder: exit code, lines on stderr."""
    root = logging.getLogger()
    handlers, level, threads = root.handlers[:], root.level, torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(CONF.parent / "scripts" / "benchmark")  # as Python does with a folder that it runs
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(name, arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        written = io.StringIO()
        with contextlib.redirect_stderr(written), contextlib.redirect_stdout(io.StringIO()):
            try:
                program(name)()
                code = 0
            except SystemExit as leaving:
                code = leaving.code
        return code, written.getvalue().splitlines()

    yield run
    root.handlers[:], root.level = handlers, level
    torch.set_num_threads(threads)


@pytest.mark.faults
@pytest.mark.parametrize(("name", "line", "part"), CASES, ids=[f"{name} {line}" for name, line, _ in CASES])
def test_bad_input_is_refused_in_a_line(name, line, part, enter, tmp_path, record_property):
    """Those of test_golden, which every run of the tests looks at, must also leave nothing behind."""
    code, lines = enter(name, line.split(" "))
    assert code == 2, lines
    assert lines
    assert all(text.startswith("error: ") for text in lines), lines
    assert any(part in text for text in lines), lines
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not list(tmp_path.glob("outputs/train/*"))
    record_property("bad_inputs", 1)


def test_there_are_many_of_them_on_every_command():
    assert len(CASES) >= 150
    assert set(BAD) == {path.stem for path in CONF.glob("*.yaml")}


# Made from the config's own keys


@functools.cache
def whole_config():
    """A composed config with as many keys as go together."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["folder=run", "data.num_samples=40", "trainer=cpu", "model=mlp_sequential",
                                   "optimizer=nesterov", "scheduler=plateau", "logger=tensorboard",
                                   "regularization=early_stopping", "threads=1"])  # fmt: skip
    OmegaConf.set_struct(config, False)
    return config


KEYS = sorted(key for key in flat(OmegaConf.to_container(whole_config())) if key != "folder")
SECTIONS = sorted({key.rpartition(".")[0] for key in KEYS if "." in key})
VALUES = st.one_of(
    st.sampled_from([
        None, True, False, 0, -1, -(10**6), 10**30, -(10**400), 10**400, 0.5, -0.5, 1.5, 1e300, 5e-324, math.nan,
        math.inf, -math.inf, "", " ", "auto", "nan", "1", "${nothing}", "${oc.env:NOT_SET_ANYWHERE}", "../..", "/", "~",
        "http://a.b", "\0", "ü", [], {}, [[]], {"a": {"b": [1]}}, [None], [0, 0], [1.5, -2], ["a"],
        {"_target_": "os.system"}, {"_target_": "mlplab.models.networks.MLP"}, {"_args_": [1]},
        [{"_target_": "builtins.eval", "a": 1}],
    ]),
    st.integers(max_value=-1), st.floats(), st.text(max_size=8), st.lists(st.integers(-3, 0), max_size=3),
)  # fmt: skip


def faults_of(config):
    """What training says of a config before it writes anything. Raises whatever else happens."""
    if faults := config_faults(config):
        return faults
    try:
        data = build.data_module(config)
        classifier = build.classifier(config, data)
        build.check_batch_norm(classifier, data)
        build.trainer(config, data)
    except ConfigError as error:
        return error.faults
    return []


def try_out(key, value, counts):
    config = copy.deepcopy(whole_config())
    try:
        OmegaConf.update(config, key, value, force_add=True, merge=False)
    except (ValueError, OSError):  # a grammar that no YAML passes
        return
    counts["tried"] += 1
    faults = faults_of(config)
    counts["refused"] += bool(faults)
    assert all(isinstance(fault, str) and fault and len(fault.splitlines()) == 1 for fault in faults)
    assert not Path("run").exists()


@pytest.fixture
def trying(tmp_path, monkeypatch, record_property):
    """In an empty folder; counts what is tried, and what was refused of it."""
    monkeypatch.chdir(tmp_path)
    counts = {"tried": 0, "refused": 0}
    yield counts
    record_property("generated_inputs", counts["tried"])
    record_property("generated_inputs_refused", counts["refused"])
    assert counts["refused"] > counts["tried"] / 2


GENERATED = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=60, **GENERATED)
@example(key="loss", value=[])
@example(key="model", value=3)
@example(key="data", value="${nothing}")
@example(key="optimizer._target_", value="${nothing}")
@example(key="data.test_fraction", value="${nothing}")
@given(key=st.sampled_from(KEYS + SECTIONS), value=VALUES)
def test_generated_values_are_taken_or_refused_in_a_line(trying, key, value):
    try_out(key, value, trying)


@pytest.mark.faults
@settings(max_examples=1500, **GENERATED)
@given(key=st.sampled_from(KEYS + SECTIONS), value=VALUES)
def test_many_generated_values_are_taken_or_refused_in_a_line(trying, key, value):
    try_out(key, value, trying)


def test_every_key_of_the_config_has_a_rule():
    assert [key for key in KEYS if key not in RULES and not key.endswith(("_target_", "_partial_"))] == []


def test_a_refused_run_leaves_the_folder_that_one_is_in(enter, tmp_path):
    assert enter("train", ["hydra.run.dir=.", "data.batch_size=851"])[0] == 2
    assert tmp_path.is_dir()
    assert enter("train", [f"hydra.run.dir={tmp_path / 'new'}", "data.batch_size=851"])[0] == 2
    assert not list(tmp_path.iterdir())
