"""The code gives what it gave when tests/golden was made: anew with `MAKE_GOLDEN=1 pytest tests/test_golden.py -m ""`.

Numbers are compared to the last bit, which needs the same torch on the same kind of CPU: on others those tests are
skipped. Making the old run folder needs the right to write to /runs, so that no path of this machine is in it.
"""

import csv
import json
import os
import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from mlplab.config.check import CONF
from mlplab.report.report import report
from mlplab.runs.checkpoints import weights_digest
from mlplab.runs.evaluate import evaluate, load_run
from mlplab.runs.predict import predict
from mlplab.runs.train import resume

pytestmark = pytest.mark.filterwarnings("ignore")

GOLDEN = Path(__file__).parent / "golden"
MAKE = os.environ.get("MAKE_GOLDEN") == "1"
MACHINE = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
VARYING = {"seconds", "fit_seconds", "started", "finished", "git_commit", "hardware", "config_digest"}
"""Columns that differ from one time, place or commit to the next; a config holds the path of its folder."""


def other_tests(name):
    """The functions of another file of tests."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / f"{name}.py")))


bad_input, resuming, training = map(other_tests, ("test_bad_input", "runs/test_resume", "runs/test_train"))
enter = bad_input.enter  # a fixture


# Comparing


def flat(value, key=""):
    """Nested dicts as one: keys joined by " > ", values as JSON, which tells any two floats apart."""
    if not isinstance(value, dict) or not value:
        return {key: json.dumps(value, ensure_ascii=False)}
    return {inner: text for name, item in value.items() for inner, text in flat(item, f"{key} > {name}").items()}


def text(value, indent="\n"):
    """JSON with a line for each key; lists stay in one."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    items = (f"{indent} {json.dumps(name)}: {text(item, f'{indent} ')}" for name, item in value.items())
    return "{" + ",".join(items) + indent + "}"


def compare(name, found, *, part=False):
    """Fail with a list of all differences from the golden file, of which `found` may be a part."""
    path = GOLDEN / f"{name}.json"
    if MAKE and not part:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(found) + "\n")
    before, now = flat(json.loads(path.read_text())), flat(found)
    different = [key for key in (now if part else {**before, **now}) if before.get(key) != now.get(key)]
    lines = [f"{key}\n  was {before.get(key)}\n  is  {now.get(key)}" for key in different]
    assert not different, f"{len(different)} of {len(before)} in {path.name}:\n" + "\n".join(lines)


if MAKE:
    compare("machine", MACHINE)
made_on = json.loads((GOLDEN / "machine.json").read_text())
bitwise = pytest.mark.skipif(made_on != MACHINE, reason=f"the golden numbers are of {made_on}, this is {MACHINE}")


def rows(path):
    """The rows of a CSV file without what varies."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in VARYING} for row in csv.DictReader(file)]


def facts(folder, scalars):
    """What a run has come to: its record without times, history.csv by columns, scalars."""
    result = json.loads((folder / "result.json").read_text())
    names = ("weights_digest", "status", "stop_reason", "updates", "best_checkpoint", "metrics")
    history = rows(folder / "history.csv")
    return {
        **{name: result.get(name) for name in names},
        "history": {name: [row[name] for row in history] for name in history[0]},
        "scalars": {tag: [list(pair) for pair in pairs] for tag, pairs in sorted(scalars(folder).items())},
    }


def files(folder):
    """All files of a folder, event files without time, host and process."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return sorted(re.sub(r"tfevents\..*", "tfevents", name) for name in names)


# Runs


RUNS = {
    "perceptron": ["model=perceptron", "data.batch_size=8"],
    "softmax_batch_1": ["model=softmax_regression", "data.batch_size=1"],
    "mlp_batch_32": ["model=mlp", "data.batch_size=32", "trainer.max_epochs=4"],
    "sequential_full_batch_adam": [
        "model=mlp_sequential", "batching=full_batch", "optimizer=adam", "optimizer.fused=false",
    ],
    "dropout_decay_smoothing": [
        "model=mlp_dropout", "optimizer.weight_decay=0.01", "loss.label_smoothing=0.1", "data.batch_size=8",
        "optimizer=momentum", "optimizer.fused=false", "scheduler=cosine", "callbacks.update_monitor.every_n_updates=1",
    ],
    "digits_augmented_residual": [
        "data=digits", "data.train_size=60", "regularization=augmentation", "data.augmentation.flip=0",
        "model=mlp_residual", "fast_layers=false",
    ],
    "early_stopping": [
        "data=moons", "data.num_samples=80", "data.noise=0.5", "optimizer=adam", "optimizer.lr=0.3",
        "optimizer.fused=false",
        "regularization=early_stopping", "callbacks.early_stopping.patience=2", "trainer.max_epochs=30",
    ],
}  # fmt: skip


@bitwise
@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_same_numbers(name, launch_full, scalars):
    compare(f"runs/{name}", facts(launch_full(*RUNS[name]).folder, scalars))


@bitwise
def test_an_interrupted_run_gives_the_same_numbers(launch_full, scalars):
    overrides = (*resuming.COMMON, *resuming.SETTINGS["dropout, momentum, cosine"], "optimizer.fused=false")
    with resuming.interrupted(29, resuming.terminate), pytest.raises(resuming.Stopped):  # of 12 updates an epoch
        launch_full(*overrides, folder="broken")
    whole = launch_full(*overrides, folder="whole").folder
    broken = whole.with_name("broken")
    assert json.loads((broken / "result.json").read_text())["updates"] == 30
    resume(broken)
    compare("runs/interrupted", facts(whole, scalars))
    assert facts(broken, scalars) == facts(whole, scalars)


@bitwise
@pytest.mark.slow
def test_two_processes_give_the_same_numbers(start, tmp_path):
    settings = ("data.batch_size=5", "trainer.max_epochs=3", "logger=none", "figures=none")
    training.start_together(start, tmp_path, *settings, f"hydra.run.dir={tmp_path / 'two'}")
    compare("runs/two_processes", facts(tmp_path / "two", lambda folder: {}))


def test_a_default_run_leaves_the_same_files(launch_full):
    compare("files", files(launch_full("figures=default").folder))


@bitwise
def test_a_sweep_gives_the_same_summary_and_files(enter):
    arguments = ("model=mlp,mlp_dropout", "seed=0,1", "data.num_samples=80", "trainer=cpu", "trainer.max_epochs=2")
    code, _ = enter("train", ["-m", "sweep=small", *arguments])
    folder = Path("outputs/sweeps/small")
    summary = {row["folder"]: row for row in rows(folder / "summary.csv")}
    text = json.dumps({"code": code, "summary": summary, "files": files(folder)})
    compare("sweep", json.loads(re.sub(r"_[0-9a-f]{8}\b", "", text)))  # digests of the jobs' configs


# Errors


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.faults), 4])
def test_bad_input_leaves_nothing_but_the_same_words(every, enter, tmp_path, monkeypatch, record_property):
    table, found = json.loads((GOLDEN / "bad_input.json").read_text()), {}
    assert set(table) == {path.stem for path in CONF.glob("*.yaml")}
    for number, (name, line) in enumerate([(name, line) for name, lines in table.items() for line in lines][::every]):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        code, lines = enter(name, line.split(" "))
        found.setdefault(name, {})[line] = {"code": code, "lines": [neutral(text, folder) for text in lines]}
        assert (code, [text for text in lines if not text.startswith("error: ")]) == (2, []), line
        assert not [path for path in folder.rglob("*") if path.is_file() or path.parent.name == "train"], line
    compare("bad_input", found, part=every > 1)
    record_property("bad_inputs", sum(map(len, found.values())))


def neutral(text, folder):
    """A line without what differs between machines."""
    text = text.replace(str(folder), "<folder>").replace(str(CONF.parent), "<root>")
    text = re.sub(r"\d+(, the number of CPU cores here)", r"<cores>\1", text)
    return re.sub(r"this machine has [\d,]+ GB", "this machine has <memory> GB", text)


# A run folder made by an earlier version


OLD = ("data=passing", "data.num_samples=80", "data.batch_size=5", "steps_per_execution=3", "trainer=cpu",
       "trainer.max_epochs=2", "figures=none")  # fmt: skip


@pytest.fixture
def old_run(enter, tmp_path):
    """A copy of the two run folders, `finished` and `stopped` in the midst of its second epoch."""
    if MAKE:
        Path("/runs").mkdir()
        with mock.patch("socket.gethostname", return_value="host"):  # a part of the names of event files
            assert enter("train", [*OLD, "hydra.run.dir=/runs/finished"])[0] == 0
            with resuming.interrupted(17, resuming.terminate):
                assert enter("train", [*OLD, "hydra.run.dir=/runs/stopped"])[0] == 143
        shutil.rmtree(GOLDEN / "old_run", ignore_errors=True)
        shutil.copytree("/runs", GOLDEN / "old_run")
        shutil.rmtree("/runs")  # not moved: logging still writes to its train.log
    return shutil.copytree(GOLDEN / "old_run", tmp_path / "old_run")


@bitwise
def test_an_old_run_is_still_read(old_run, composed, tmp_path, capsys):
    folder = old_run / "finished"
    run = load_run(folder, checkpoint="last")
    (tmp_path / "points.csv").write_text("0,0\n1,-1\n-0.5,2.5\n")
    predict(composed("predict", f"run={folder}", f"input={tmp_path / 'points.csv'}", "output=predictions.csv"))
    capsys.readouterr()
    evaluated = [evaluate(composed("eval", f"run={folder}", f"split={split}")) for split in ("train", "val", "test")]
    printed = capsys.readouterr().out.splitlines()
    assert report([str(folder)]).page == folder / "report.html"
    report([str(old_run)])
    compare("old_run_read", {
        "weights_digest": weights_digest(run.model.network),
        "metrics": run.metrics,
        "evaluated": evaluated,
        "printed": printed,
        "predicted": Path("predictions.csv").read_text().splitlines(),
        "summary": {row["status"]: row for row in rows(old_run / "summary.csv")},
    })  # fmt: skip


@bitwise
def test_an_old_run_is_still_continued(old_run, scalars):
    folder = old_run / "stopped"
    assert json.loads((folder / "result.json").read_text())["updates"] == 18  # of 24
    resume(folder)
    compare("old_run_continued", facts(folder, scalars))
    finished = facts(old_run / "finished", scalars)
    assert facts(folder, scalars)["weights_digest"] == finished["weights_digest"]
