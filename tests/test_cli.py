"""The frame around every command: what a person sees who mistypes, and how quickly."""

import copy
import io
import logging
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mlplab.cli import command
from mlplab.cli.arguments import in_grammar, own_words, read
from mlplab.config.check import CONF, config_faults
from mlplab.config.overrides import quoted
from mlplab.errors import ConfigError, RunFailed

TRAIN = CONF.parent / "train.py"
MAX_LINES = 5


@pytest.fixture
def enter(monkeypatch, capsys, tmp_path):
    """Run a function as the program `train.py` with these arguments: exit code, lines on stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)

    def run(*arguments, function=lambda config: None, name="train", **options):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        try:
            command(name, **options)(function)()
            code = 0
        except SystemExit as leaving:
            code = leaving.code
        return code, capsys.readouterr().err.splitlines()

    yield run
    root.handlers[:], root.level = handlers, level  # Hydra sets up logging


def program(*arguments, folder, name="train.py", **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "HYDRA_", "MLPLAB_"))}
    return subprocess.run(
        [sys.executable, str(CONF.parent / name), *map(str, arguments)],
        cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


BAD = {  # arguments → what the error must name
    "data.batch_size=0": ["data.batch_size", "0", "integer ≥ 1"],
    "data=image_folder": ["data.root must be given"],
    "modle=mlp": ["modle", "did you mean 'model'?"],
    "model=mpl": ["model=mpl", "did you mean 'mlp'?", "mlp_residual"],
    "model=3": ["model=3", "there are:"],
    "data.btach_size=3": ["data.btach_size", "did you mean 'batch_size'?"],
    "optimiser.lr=0.1": ["optimiser.lr", "did you mean 'optimizer'?"],
    "callbacks.early_stopping.patience=3": ["callbacks.early_stopping", "it comes with regularization=early_stopping"],
    "experiment=cifar10": ["experiment=cifar10", "did you mean 'cifar10_mlp'?"],
    "+experiment=cifar10_mlp": ["+experiment=cifar10_mlp", "without the +"],
    "+colour=red": ["colour", "no such key"],
    "~model": ["model"],
    "~optimizer.lr": ["optimizer.lr"],
    "trainer.max_epochs": ["trainer.max_epochs: no key=value; see --help"],
    "help": ["help: no key=value; did you mean --help?"],
    "-help": ["-help: no such option; did you mean '--help'?"],
    "--hlp": ["--hlp: no such option; did you mean '--help'?"],
    "-M seed=0,1": ["-M: no such option; did you mean '-m'?"],
    "mlp_dropout": ["mlp_dropout: no key=value; did you mean model=mlp_dropout?"],
    "outputs/train/x": ["did you mean resume=outputs/train/x?"],
    "optimizer=SGD": ["did you mean 'sgd'?"],
    "data=Moon": ["did you mean 'moons'?"],
    "Optimizer.lr=1": ["did you mean 'optimizer'?"],
    "optimizer.momentum=0.9": ["it comes with optimizer=momentum or optimizer=nesterov"],
    "model.activation=tanh": ["it comes with model=mlp_residual or model=mlp_sequential"],
    "scheduler.milestones=[0.5]": ["it comes with scheduler=step;"],
    "data.noise=0.1": ["data=moons or data=spirals"],
    "optimizer=adam model=[a": ["model=[a: cannot be read; lists are written [1,2]"],
    "model.hidden_sizes=[1,": ["[1,"],
    "a b": ["a b"],
    "--epochs=3 --hlep": ["--epochs=3: no such option", "--hlep: no such option; did you mean '--help'?"],
    "-m --multirunn seed=0,1": ["--multirunn", "did you mean '--multirun'?"],
    "--cfg": ["--cfg", "expected one argument"],
}


@pytest.mark.parametrize(("arguments", "parts"), BAD.items(), ids=BAD)
def test_a_mistake_is_named_in_a_few_lines_without_a_traceback(arguments, parts, enter, tmp_path):
    called = []
    arguments = [arguments] if arguments == "a b" else arguments.split(" ")
    code, lines = enter(*arguments, function=called.append)
    assert code == 2
    assert 1 <= len(lines) <= MAX_LINES
    assert all(line.startswith("error: ") for line in lines)
    for part in parts:
        assert any(part in line for line in lines), (part, lines)
    assert not called
    assert not list(tmp_path.iterdir())  # nothing was written


VALUES = [
    ("data.batch_size", -1), ("data.batch_size", "abc"), ("data.batch_size", 1e9), ("data.batch_size", True),
    ("data.batch_size", None), ("data.eval_batch_size", 0), ("data.train_size", 0), ("data.num_workers", -1),
    ("data.val_fraction", 1.0), ("data.num_folds", 1), ("data.num_folds", 2.5), ("data.num_folds", "many"),
    ("data.fold", -1), ("data.fold", 0.5), ("data.test_fraction", -0.1), ("data.label_noise", 2),
    ("data.num_samples", 3.5),
    ("data.augmentation.flip", 1.5), ("model.dropout", 1.5), ("model.dropout", 1), ("model.dropout", [0.5]),
    ("model.dropout", [0.5, 2]), ("model.dropout", "some"), ("model.hidden_sizes", [0]), ("model.hidden_sizes", 16),
    ("model.hidden_sizes", [16, 1.5]), ("optimizer.lr", math.nan), ("optimizer.lr", math.inf), ("optimizer.lr", -1),
    ("optimizer.lr", 0), ("optimizer.lr", "fast"), ("optimizer.lr", None), ("optimizer.weight_decay", -1),
    ("loss.label_smoothing", 1.0), ("scheduler.warmup", 1.0), ("trainer.max_epochs", 1.5), ("trainer.max_epochs", -2),
    ("trainer.max_steps", 0.5), ("trainer.devices", 0), ("trainer.gradient_clip_val", -1),
    ("trainer.limit_train_batches", 1.5), ("trainer.limit_train_batches", -1), ("trainer.accumulate_grad_batches", 4),
    ("trainer.val_check_interval", -1), ("trainer.val_check_interval", 0), ("trainer.limit_test_batches", 0),
    ("steps_per_execution", 0), ("steps_per_execution", -3), ("steps_per_execution", "abc"),
    ("steps_per_execution", 2.0), ("threads", 0), ("compile", "maybe"), ("seed", -1), ("seed", 1.5), ("seed", 2**32),
    ("test", "perhaps"), ("test", 1), ("monitor", None), ("monitor_mode", "most"),
    ("callbacks.gradient_noise.num_batches", 1), ("callbacks.gradient_noise.max_share", 0),
    ("callbacks.update_monitor.every_n_updates", 0), ("model._target_", "os.system"),
    ("callbacks.figures._target_", "builtins.eval"), ("trainer.profiler", {"_target_": "subprocess.run"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def base_config():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["folder=unused"])
    OmegaConf.set_struct(config, False)
    assert config_faults(config) == []
    return config


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_a_bad_value_is_one_fault_that_names_key_and_value(key, value, base_config):
    config = copy.deepcopy(base_config)
    OmegaConf.update(config, key, value)
    (fault,) = config_faults(config)
    assert key in fault
    shown = value["_target_"] if isinstance(value, dict) else value
    assert repr(shown) in fault or str(shown) in fault or key == "trainer.accumulate_grad_batches"
    assert "\n" not in fault


TOGETHER = [  # overrides that are fine alone, and what the one fault must name
    (["data.val_fraction=0.6", "data.test_fraction=0.4"], ["data.val_fraction + data.test_fraction", "0.6 + 0.4"]),
    (["data.val_fraction=0"], ["monitor=val/acc", "data.val_fraction=0"]),
    (["monitor=val/accu"], ["monitor=val/accu is never logged; did you mean 'val/acc'?; there are: train/loss, "]),
    (["regularization=early_stopping", "callbacks.early_stopping.monitor=val/los"], ["did you mean 'val/loss'?"]),
    (["regularization=early_stopping", "data.num_folds=2", "data.fold=0", "data.val_fraction=0", "monitor=x"], ["x"]),
    (["data.val_fraction=0", "monitor=train/los"], ["monitor=train/los", "did you mean 'train/loss'?"]),
    (["data.fold=1"], ["data.fold=1", "data.num_folds"]),
    (["data.num_folds=5"], ["data.num_folds=5", "data.fold=0", "data.fold=range(5)"]),
    (["data.num_folds=5", "data.fold=5"], ["data.fold", "below data.num_folds=5", "got 5"]),
    (["trainer=cpu", "trainer.devices=99999"], ["trainer.devices", "99999", "CPU cores"]),
    (["regularization=dropout", "model=softmax_regression"], ["model.dropout=0.5", "hidden layers"]),
    (["regularization=dropout", "model=mlp_sequential", "model.hidden_sizes=[]"], ["model.dropout=0.5", "hidden"]),
    (["data=digits", "regularization=more_data"], ["data.num_samples", "data.train_size"]),
    (["model=perceptron", "regularization=label_smoothing"], ["loss.label_smoothing"]),
    (["trainer.max_epochs=-1", "scheduler=cosine"], ["scheduler cosine", "trainer.max_epochs"]),
]


@pytest.mark.parametrize(("overrides", "parts"), TOGETHER, ids=lambda value: " ".join(value))
def test_values_that_do_not_go_together_are_one_fault(overrides, parts, make_config):
    (fault,) = config_faults(make_config(*overrides))
    assert all(part in fault for part in parts), fault


@pytest.mark.parametrize(
    ("name", "word", "meant"),
    [
        ("eval", "outputs/train/x", "run=outputs/train/x"),
        ("eval", "here=1/x[b] c", "'run=here=1/x[b] c'"),
        ("predict", "outputs/a", "run=outputs/a or input=outputs/a"),
        ("tune", "mlp", "search=mlp"),
        ("inspect_data", "digits", "data=digits"),
    ],
)
def test_a_word_that_is_no_key_and_value_is_answered_with_what_it_may_be(name, word, meant, enter, tmp_path):
    (tmp_path / "here=1" / "x[b] c").mkdir(parents=True)
    assert enter(word, name=name) == (2, [f"error: {word}: no key=value; did you mean {meant}?"])


def test_all_faults_are_reported_together(enter):
    code, lines = enter("data.btach_size=3", "model=mpl", "optimizer.lr=fast", "seed=-1", "trainer.max_epochs=1.5")
    assert code == 2
    assert sorted(line.split()[1].rstrip(":") for line in lines) == [
        "data.btach_size", "model=mpl", "optimizer.lr", "seed", "trainer.max_epochs"
    ]  # fmt: skip


def test_the_function_gets_the_composed_config(enter, tmp_path):
    seen = []
    code, lines = enter("optimizer.lr=0.25", f"hydra.run.dir={tmp_path / 'here'}", function=seen.append)
    assert (code, lines) == (0, [])
    (config,) = seen
    assert config.optimizer.lr == 0.25


def test_paths_stay_relative_to_the_folder_of_the_command(enter, tmp_path):
    seen = []
    code, lines = enter("hydra.job.chdir=true", "hydra.run.dir=a b", function=lambda _: seen.append(Path.cwd()))
    assert (code, seen, (tmp_path / "a b").is_dir()) == (0, [tmp_path], True)
    assert lines == ["hydra.job.chdir=true has no effect: paths are relative to the folder of the command"]


def test_a_copy_without_configs_says_what_to_do(enter, tmp_path, monkeypatch):
    monkeypatch.setattr("mlplab.cli.launch.CONF", tmp_path / "conf")
    code, (line,) = enter("--help")
    assert (code, line[-26:]) == (2, "python -m pip install -e .")


def test_a_sweep_with_one_bad_value_is_refused_before_any_job(enter, tmp_path):
    called = []
    code, lines = enter("-m", "data.batch_size=1,32,0", "model=mlp,mpl", function=called.append)
    assert code == 2
    assert any("data.batch_size" in line and "got 0" in line for line in lines)
    assert any("model=mpl" in line and "did you mean 'mlp'?" in line for line in lines)
    assert len(lines) == 2  # each fault once, however many jobs have it
    assert not called
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "list_hint"),
    [
        ("model=mlp,mlp_dropout", ""),
        ("seed=0,1", ""),
        ("model.hidden_sizes=32,16", ", or write one list as 'model.hidden_sizes=[32,16]'"),
        ("model.dropout=0.2,0.5", ", or write one list as 'model.dropout=[0.2,0.5]'"),
        ("model.hidden_sizes=[32],[16]", ""),
    ],
)
def test_several_values_without_multirun_are_refused(override, list_hint, enter):
    code, lines = enter(override)
    assert code == 2
    assert lines == [f"error: {override}: several values need a multirun; add -m{list_hint}"]


@pytest.mark.parametrize(("terminal", "lines"), [(True, ["loading libraries …"]), (False, [])])
def test_only_a_person_is_told_why_nothing_seems_to_happen(terminal, lines, enter, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: terminal)
    assert enter(f"hydra.run.dir={tmp_path / 'here'}") == (0, lines)
    assert enter("optimizer.lr=fast")[1][0].startswith("error: ")  # at once, before any loading


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ConfigError("one is wrong", "two is wrong"), 2, ["error: one is wrong", "error: two is wrong"]),
        (RunFailed("diverged: the loss of update 3"), 1, ["error: diverged: the loss of update 3"]),
        (PermissionError(13, "Permission denied", "/folder"), 2, ["error: /folder: Permission denied"]),
        (ZeroDivisionError("division by zero"), 1, ["error: ZeroDivisionError: division by zero"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_a_run_set_the_exit_code(error, code, shown, enter, tmp_path):
    def fail(config):
        raise error

    got, lines = enter(f"hydra.run.dir={tmp_path / 'here'}", function=fail)
    assert got == code
    assert len(lines) == len(shown)
    assert all(line.startswith(start) for line, start in zip(lines, shown, strict=True))


def test_a_folder_that_cannot_be_made_is_named(enter, tmp_path):
    (tmp_path / "file").write_text("")
    code, lines = enter(f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    assert code == 2
    assert len(lines) == 1
    assert str(tmp_path / "file") in lines[0]


@pytest.mark.parametrize("name", [path.stem for path in CONF.glob("*.yaml")])
def test_the_help_of_a_command_is_its_own(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    command(name)(lambda config: None)()
    text = capsys.readouterr().out
    assert re.search(rf"python (scripts/)?{name}\b", text)
    assert "hydra" not in text.partition("Set any value")[0]
    for key in OmegaConf.load(CONF / f"{name}.yaml"):
        assert key == "defaults" or f"\n{key}: " in text or f"\n{key}:\n" in text
    for line in text.splitlines():
        if line.startswith("  data  "):
            assert "passing" in line
            assert " base" not in line


# Paths and lists on the command line


def test_paths_are_quoted_where_hydra_would_misread_them(tmp_path, monkeypatch):
    assert in_grammar("run=outputs/sweeps/a/data.batch_size=1,model=mlp") == (
        "run='outputs/sweeps/a/data.batch_size=1,model=mlp'"
    )
    for fine in ("run=outputs/train/a_b-1", "run='a=b'", "model=mlp,mlp_dropout", "data.root=not there", "resume=null"):
        assert in_grammar(fine) == fine
    monkeypatch.chdir(tmp_path)
    for there in ("my data", "a,b", "[c]", "it's"):
        (tmp_path / there).mkdir()
        assert in_grammar(f"data.root={there}") == f"data.root={quoted(there)}"
    for not_there in ("exp[bold]1", "x[/y]", "größe", "a=b", "a(1)"):
        assert in_grammar(f"hydra.run.dir={not_there}") == f"hydra.run.dir='{not_there}'"


@pytest.mark.parametrize("path", ["a b", "it's", "a\\b", "a\\'b", "a\\", "a=1,b=[2]"])
def test_any_path_can_be_quoted(path):
    assert OverridesParser.create().parse_override(f"run={quoted(path)}").value() == path


@pytest.mark.parametrize(
    ("written", "items"),
    [
        ("overrides=[data=moons]", ["data=moons"]),
        ("overrides=[data=moons,model.hidden_sizes=[8,4],~callbacks.history,+a.b={c:1,d:2}]",
         ["data=moons", "model.hidden_sizes=[8,4]", "~callbacks.history", "+a.b={c:1,d:2}"]),
        ("search.overrides=[data=moons, seed=1]", ["data=moons", "seed=1"]),
        ("overrides=['data=moons']", ["data=moons"]),
        ("overrides=[]", []),
    ],
)  # fmt: skip
def test_overrides_within_an_override_need_no_quotes(written, items):
    assert OverridesParser.create().parse_override(in_grammar(written)).value() == items


def test_bare_paths_arrive_as_they_were_typed(enter, tmp_path):
    (tmp_path / "lr=0.1,seed=0").mkdir()
    typed, seen = ["a/lr=0.1,seed=0", "lr=0.1,seed=0", "it's here", "c d"], []
    assert enter(*typed, "into=here", name="report", bare_paths="run", function=seen.append) == (0, [])
    assert (seen[0].run, seen[0].into) == (typed, "here")
    enter("run=[a,b]", name="report", bare_paths="run", function=seen.append)
    assert seen[1].run == ["a", "b"]


def test_a_command_that_is_no_run_is_called_with_every_combination(enter):
    seen = []
    assert enter("-m", "run=a,b", "split=val,test", name="eval", function=seen.append) == (0, [])
    assert [(config.run, config.split) for config in seen] == [("a", "val"), ("a", "test"), ("b", "val"), ("b", "test")]


def test_two_launches_in_the_same_second_have_different_names():
    first, second = (OmegaConf.create({"a": "${run_folder:null}", "b": "${run_folder:null}"}) for _ in range(2))
    assert first.a == first.b
    assert first.a != second.a


@pytest.mark.parametrize(
    ("name", "offered", "kept"),
    [
        ("eval", "accelerator= data= hydra. run= split= trainer=", "accelerator= run= split="),
        ("report", "into= model= run=", "into= run="),
        ("train", "data=base data=csv hydra/launcher= model. run=", "data=csv hydra/launcher= model."),
    ],
)
def test_the_tab_key_offers_what_the_command_has(name, offered, kept, capsys):
    with own_words(name):
        print(offered)
    assert capsys.readouterr().out.split() == kept.split()


def test_completion_is_for_a_shell():
    with pytest.raises(ConfigError, match="--shell-completion needs a shell: eval"):
        read(["--shell-completion"])
    assert read(["-sc", "install=bash"]).shows


# As a program. Each of these starts Python, so there are few.

SPY = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as leaving:
    code = leaving.code
else:
    code = 0
heavy = [name for name in ("torch", "lightning", "torchmetrics", "sklearn", "matplotlib") if name in sys.modules]
print("HEAVY", heavy, "CODE", code, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["train.py", "--help"], 0, "python train.py model=mlp_dropout data.batch_size=1"),
        (["train.py", "--cfg", "job"], 0, "hidden_sizes:"),
        (["train.py", "optimizer.lr=fast"], 2, None),
        (["eval.py", "run=misspelt"], 2, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_config_and_errors_do_not_wait_for_torch(arguments, code, shown, tmp_path):
    name, *options = arguments
    command = [sys.executable, "-c", SPY, str(CONF.parent / name), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert f"HEAVY [] CODE {code}" in done.stderr
    assert shown is None or shown in done.stdout
    assert not list(tmp_path.iterdir())


def test_help_may_be_read_in_part(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does when it has seen enough
    done = subprocess.run(
        [sys.executable, str(TRAIN), "--help"], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_mistake_ends_the_program_and_its_traceback_can_be_asked_for(tmp_path):
    plain = program("optimizer.lr=fast", folder=tmp_path)
    assert plain.returncode == 2
    assert plain.stdout == ""
    assert plain.stderr == "error: optimizer.lr must be a finite number > 0, got 'fast'\n"
    full = program("optimizer.lr=fast", folder=tmp_path, HYDRA_FULL_ERROR="1")
    assert full.returncode != 0
    assert "Traceback" in full.stderr
    assert "optimizer.lr must be a finite number > 0" in full.stderr


# What a terminal may be: any encoding, and a person who presses Ctrl-C


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "utf-8"])
def test_what_a_terminal_cannot_show_ends_nothing(encoding, monkeypatch, tmp_path):
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "argv", ["report.py", "ä/größe"])
    command("report", bare_paths="run")(lambda config: print(f"{config.run[0]} 1 ± 2 → ≥ −3 \udcff"))()
    written.flush()
    shown = written.buffer.getvalue().decode(encoding)
    assert re.fullmatch(r"./gr..e 1 . 2 . . .3 \?\s*", shown), shown
    assert encoding == "ascii" or shown.startswith("ä/größe")


def test_the_help_can_be_read_where_python_writes_ascii(tmp_path):
    done = program("--help", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python train.py model=mlp_dropout" in done.stdout


INTERRUPTING = """
import os, runpy, signal, sys
module, name, *sys.argv = sys.argv[1:]
class Interrupting:
    def find_spec(self, imported, *_):
        if imported == module:
            os.kill(os.getpid(), getattr(signal, name))
sys.meta_path.insert(0, Interrupting())
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("hydra", "train.py"),
        ("torch", "train.py figures=none"),
        ("lightning.pytorch", "train.py -m seed=0,1 sweep=a"),
        ("omegaconf", "eval.py run=x"),
        ("pandas", "scripts/inspect_data.py"),
        ("pandas", "scripts/report.py somewhere"),
        ("torch", "scripts/predict.py run=a input=b"),
        ("matplotlib", "scripts/mean_brightness.py data=digits"),
    ],
)
def test_a_signal_while_libraries_are_loaded_is_one_line_and_leaves_nothing(module, arguments, number, tmp_path):
    name, *options = arguments.split()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTING, module, number.name, str(CONF.parent / name), *options],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + number, f"stopped by {number.name}\n")
    assert not list(tmp_path.iterdir())
