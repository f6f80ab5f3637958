"""Every key of the composed config is given values of wrong types and sizes: taken, or refused in a line.

Bad input that was written by hand is in tests/golden/bad_input.json, with what the commands say of it.
"""

import contextlib
import copy
import functools
import io
import math
import runpy
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlplab.config.check import CONF, config_faults
from mlplab.config.keys import RULES, flat
from mlplab.errors import ConfigError
from mlplab.runs.train import built

pytestmark = pytest.mark.filterwarnings("ignore")

PROGRAMS = {"train": "train.py", "eval": "eval.py", "benchmark": "scripts/benchmark/__main__.py"}
"""Command → its file; the others are in scripts/."""


@functools.cache
def program(name):
    """The function `main` of a command's file."""
    return runpy.run_path(str(CONF.parent / PROGRAMS.get(name, f"scripts/{name}.py")))["main"]


@pytest.fixture
def enter(monkeypatch, as_a_program):
    """Run a command in an empty folder: exit code, lines on stderr."""
    monkeypatch.syspath_prepend(CONF.parent / "scripts" / "benchmark")  # as Python does with a folder that it runs

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

    return run


# Made from the config's own keys


@functools.cache
def whole_config():
    """A composed config with as many keys as go together."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["folder=run", "data.num_samples=40", "data.batch_size=8", "trainer=cpu",
                                   "model=mlp_sequential", "optimizer=nesterov", "scheduler=plateau",
                                   "logger=tensorboard", "regularization=early_stopping", "threads=1"])  # fmt: skip
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
        built(config)
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
@example(key="callbacks.checkpoint", value={"a": {"b": [1]}})
@example(key="model", value=3)
@example(key="data", value="${nothing}")
@example(key="optimizer._target_", value="${nothing}")
@example(key="data.test_fraction", value="${nothing}")
@example(key="data.augmentation", value={"_target_": "mlplab.models.networks.MLP"})
@given(key=st.sampled_from(KEYS + SECTIONS), value=VALUES)
def test_generated_values_are_taken_or_refused_in_a_line(trying, key, value):
    try_out(key, value, trying)


@pytest.mark.faults
@settings(max_examples=1500, **GENERATED)
@given(key=st.sampled_from(KEYS + SECTIONS), value=VALUES)
def test_many_generated_values_are_taken_or_refused_in_a_line(trying, key, value):
    try_out(key, value, trying)


def test_the_values_that_are_tried_take_the_place_of_good_ones():
    assert faults_of(copy.deepcopy(whole_config())) == []


def test_every_key_of_the_config_has_a_rule():
    assert [key for key in KEYS if key not in RULES and not key.endswith(("_target_", "_partial_"))] == []


def test_a_refused_run_leaves_the_folder_that_one_is_in(enter, tmp_path):
    assert enter("train", ["hydra.run.dir=.", "data.batch_size=851"])[0] == 2
    assert tmp_path.is_dir()
    assert enter("train", [f"hydra.run.dir={tmp_path / 'new'}", "data.batch_size=851"])[0] == 2
    assert not list(tmp_path.iterdir())
