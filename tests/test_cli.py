"""The frame around every command: what a person sees who mistypes, and how quickly."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mlplab.cli import command
from mlplab.cli.arguments import in_grammar, own_words
from mlplab.config.check import CONF
from mlplab.config.overrides import quoted
from mlplab.errors import ConfigError, RunFailed

TRAIN = CONF.parent / "train.py"


@pytest.fixture
def enter(monkeypatch, capsys, as_a_program):
    """Run a function as the program `train.py` with these arguments: exit code, lines on stderr."""

    def run(*arguments, function=lambda config: None, name="train", **options):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        try:
            command(name, **options)(function)()
            code = 0
        except SystemExit as leaving:
            code = leaving.code
        return code, capsys.readouterr().err.splitlines()

    return run


BAD = {  # arguments → what the error must name; more in tests/golden/bad_input.json
    "modle=mlp": ["modle", "did you mean 'model'?"],
    "optimizer=SGD": ["did you mean 'sgd'?"],
    "callbacks.early_stopping.patience=3": ["callbacks.early_stopping", "it comes with regularization=early_stopping"],
    "scheduler.mode=max seed=-1": ["scheduler.mode: no such key; it comes with scheduler=plateau", "seed must be"],
    "trainer.profiler.dirpath=x": ["trainer.profiler.dirpath: no such key", "debug=profiler"],
    "+experiment=cifar10_mlp": ["+experiment=cifar10_mlp", "without the +"],
    "trainer.max_epochs": ["trainer.max_epochs: no key=value; see --help"],
    "mlp_dropout": ["mlp_dropout: no key=value; did you mean model=mlp_dropout?"],
    "outputs/train/x": ["did you mean resume=outputs/train/x?"],
    "seed=0,1": ["seed=0,1: several values need a multirun; add -m"],
    "model.dropout=0.2,0.5": ["add -m, or write one list as 'model.dropout=[0.2,0.5]'"],
    "optimizer=adam model=[a": ["model=[a: cannot be read; lists are written [1,2]"],
    "a b": ["a b"],
    "--epochs=3 --hlep": ["--epochs=3: no such option", "--hlep: no such option; did you mean '--help'?"],
    "--cfg": ["--cfg", "expected one argument"],
    "data.btach_size=3 model=mpl seed=-1": ["data.btach_size: no such key", "model=mpl", "seed must be"],
    "-m optimizer.lr=interval(0,1)": ["optimizer.lr=interval(0,1): an interval has no end of values"],
    "-m seed=range(3,1) model=glob(zzz*)": [
        "seed=range(3,1): no value",
        "model=glob(zzz*): no value; there are: mlp",
    ],
    "-m --cfg job": ["-m --cfg job: a multirun shows nothing; leave out -m"],
    f"name={'a' * 101}": ["name must be null or a folder's name of up to 100 letters"],
    "+callbacks.mine._target_=lightning.pytorch.callbacks.LearningRateFinder": [
        "callbacks.mine: LearningRateFinder needs"
    ],
    "+callbacks.mine.every=1": ["callbacks.mine._target_ must be given"],
    "-m data.batch_size=1,32,0 model=mlp,mpl": ["data.batch_size must be", "did you mean 'mlp'?"],
}


@pytest.mark.parametrize(("arguments", "parts"), BAD.items(), ids=BAD)
def test_a_mistake_is_named_in_a_few_lines_without_a_traceback(arguments, parts, enter, tmp_path):
    called = []
    arguments = [arguments] if arguments == "a b" else arguments.split(" ")
    code, lines = enter(*arguments, function=called.append)
    assert code == 2
    assert all(line.startswith("error: ") for line in lines)
    for part in parts:
        assert any(part in line for line in lines), (part, lines)
    assert len(lines) in (1, len(parts))  # each fault once, however many jobs have it
    assert not called
    assert not list(tmp_path.iterdir())  # nothing was written


def test_a_path_that_is_no_key_and_value_is_answered_with_what_can_be_pasted(enter, tmp_path):
    (tmp_path / "here=1" / "x[b] c").mkdir(parents=True)
    said = "error: here=1/x[b] c: no key=value; did you mean 'run=here=1/x[b] c'?"
    assert enter("here=1/x[b] c", name="eval") == (2, [said])


def test_paths_stay_relative_to_the_folder_of_the_command(enter, tmp_path):
    seen = []
    code, lines = enter("hydra.job.chdir=true", "hydra.run.dir=a b", function=lambda _: seen.append(Path.cwd()))
    assert (code, seen, (tmp_path / "a b").is_dir()) == (0, [tmp_path], True)
    assert lines == ["hydra.job.chdir=true has no effect: paths are relative to the folder of the command"]


def test_a_copy_without_configs_says_what_to_do(enter, tmp_path, monkeypatch):
    monkeypatch.setattr("mlplab.cli.launch.CONF", tmp_path / "conf")
    code, (line,) = enter("--help")
    assert (code, line[-26:]) == (2, "python -m pip install -e .")


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


@pytest.mark.parametrize(
    ("written", "items"),
    [
        ("overrides=[data=moons]", ["data=moons"]),
        ("overrides=[data=moons,model.hidden_sizes=[8,4],~callbacks.history,+a.b={c:1,d:2}]",
         ["data=moons", "model.hidden_sizes=[8,4]", "~callbacks.history", "+a.b={c:1,d:2}"]),
        ("search.overrides=[data=moons, seed=1]", ["data=moons", "seed=1"]),
        ("overrides=['data=moons']", ["data=moons"]),
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
    refusal = ["error: run=a outputs/b: write either run=…, or one path or several without it"]
    assert enter("run=a", "outputs/b", name="report", bare_paths="run", function=seen.append) == (2, refusal)
    assert seen[1].run == ["a", "b"]


def test_a_command_that_is_no_run_is_called_with_every_combination(enter):
    seen = []
    assert enter("-m", "run=a,b", "split=val,test", name="eval", function=seen.append) == (0, [])
    assert [(config.run, config.split) for config in seen] == [("a", "val"), ("a", "test"), ("b", "val"), ("b", "test")]


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
        (["train.py", "-m", "seed=0,1", "optimizer.lr=fast"], 2, None),
        (["eval.py", "run=misspelt"], 2, None),
        (["scripts/predict.py", "--cfg", "job"], 0, "output:"),
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


def test_a_mistake_ends_the_program_and_its_traceback_can_be_asked_for(start, tmp_path):
    plain = start("train.py", "optimizer.lr=fast", folder=tmp_path, stderr=subprocess.PIPE)
    assert plain.communicate() == ("", "error: optimizer.lr must be a finite number > 0, got 'fast'\n")
    assert plain.returncode == 2
    full = start("train.py", "optimizer.lr=fast", folder=tmp_path, HYDRA_FULL_ERROR="1")
    assert re.search("Traceback(.|\n)*optimizer.lr must be a finite number > 0", full.communicate()[0])
    assert full.returncode != 0


def test_a_config_of_ones_own_that_is_no_yaml_is_named_with_its_line(enter, tmp_path):
    (tmp_path / "mine.yaml").write_text("width: 3\nsizes: [16\n")
    code, lines = enter(function=lambda config: OmegaConf.load(tmp_path / "mine.yaml"))
    assert (code, lines) == (2, [f"error: {tmp_path}/mine.yaml, line 3: expected ',' or ']', but got '<stream end>'"])


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
        ("pandas", "scripts/report.py somewhere"),
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
