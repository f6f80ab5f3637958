"""Sweeps: which jobs are run, what is said of them, what is refused. Most jobs here are played, not trained."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from mlplab.cli import command
from mlplab.config.check import CONF
from mlplab.config.overrides import composed, hydra_started
from mlplab.errors import ConfigError, RunFailed
from mlplab.runs import build
from mlplab.runs.record import Record
from mlplab.sweeps import grid
from mlplab.sweeps.grid import job_name
from mlplab.sweeps.sweeper import ComposedOnce

ROOT = CONF.parent


@pytest.fixture
def multirun(monkeypatch, capsys, as_a_program):
    """Run `train.py` with these arguments in this process, `play` instead of training.

    Gives the exit code, what was printed, and (lr, seed) of the jobs that were run anew and that were resumed.
    """
    monkeypatch.setattr("mlplab.sweeps.sweeper.report_on", lambda folder: [])

    def run(*arguments, play=lambda config: None, resume=None, options=("-m",)):
        ran, resumed = [], []

        def job(config):
            ran.append((config.optimizer.lr, config.seed))
            record = Record(Path(config.folder), {"status": "running", "metrics": {}})
            record.create(OmegaConf.to_yaml(config, resolve=True))
            print("talkative")
            try:
                play(config)
                record.update(status="finished", metrics={"val/acc": 0.5}, fit_seconds=1.0)
            finally:
                record.release()

        def finish(folder):
            record = Record.read(folder)
            config = record.config()
            resumed.append((config.optimizer.lr, config.seed))
            record.update(status="finished")

        monkeypatch.setattr("mlplab.runs.train.train", job)
        monkeypatch.setattr("mlplab.runs.train.resume", resume or finish)
        monkeypatch.setattr(sys, "argv", ["train.py", *options, *arguments])
        try:
            command("train")(job)()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err.splitlines(), ran=ran, resumed=resumed)

    return run


GRID = ("sweep=a", "optimizer.lr=0.1,0.2", "seed=0,1")
ALL = [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]


def folders(name="a"):
    return {path.parent.name for path in Path("outputs/sweeps", name).glob("*/result.json")}


def sweep_json(name="a"):
    return json.loads(Path("outputs/sweeps", name, "sweep.json").read_text())


def job(lr, seed, name="a"):
    """The folder of a job of GRID."""
    (folder,) = Path("outputs/sweeps", name).glob(f"lr-{lr}_seed-{seed}_*")
    return folder


def test_a_sweep_runs_every_job_in_a_folder_of_its_own_and_says_what_it_is(multirun, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # xdist sets it to 80
    done = multirun(*GRID)
    assert (done.code, done.err, done.ran) == (0, [], ALL)
    described = sweep_json()
    assert described["command"] == "python train.py -m sweep=a optimizer.lr=0.1,0.2 seed=0,1"
    assert described["jobs"] == [job(lr, seed).name for lr, seed in ALL]
    assert set(described["jobs"]) == folders()
    lines = done.out.splitlines()
    for number, (lr, seed) in enumerate(ALL, start=1):
        (line,) = (line for line in lines if line.startswith(f"{number}/4 "))
        assert f"optimizer.lr={lr} seed={seed}" in line
        assert "finished" in line
        assert "val/acc  50.00%" in line
        assert "talkative" in (job(lr, seed) / "train.log").read_text()  # its own output goes there
    assert "talkative" not in done.out

    records = {path: path.stat().st_mtime_ns for path in Path("outputs").rglob("result.json")}
    again = multirun(*GRID)
    assert (again.code, again.ran) == (0, [])
    assert "4 of them done before" in again.out
    assert records == {path: path.stat().st_mtime_ns for path in Path("outputs").rglob("result.json")}


def test_only_what_failed_is_missing_or_was_stopped_is_run_again(multirun):
    def fail(config):
        if config.seed == 1 and config.optimizer.lr == 0.1:
            raise ZeroDivisionError("division by zero")

    first = multirun(*GRID, play=fail)
    assert (first.code, first.ran) == (1, ALL)
    assert first.err[0] == "error: 1 of 4 jobs did not finish"
    assert first.err[1].startswith("error: optimizer.lr=0.1 seed=1: failed: ZeroDivisionError: division by zero (")
    assert " (outputs/sweeps/a/" in first.err[1]
    assert len(first.err) == 2
    assert "ZeroDivisionError" in (job(0.1, 1) / "train.log").read_text()  # where it can be looked into

    Record.read(job(0.2, 0)).update(status="running")  # as SIGKILL leaves it
    (job(0.2, 1) / "result.json").unlink()
    second = multirun(*GRID)
    assert (second.code, second.ran, second.resumed) == (0, [(0.1, 1), (0.2, 1)], [(0.2, 0)])


def test_a_record_that_is_damaged_meanwhile_costs_its_job_and_no_other(multirun):
    def damage(config):
        if config.seed == 1 and config.optimizer.lr == 0.2:
            (job(0.1, 0) / "result.json").write_text("{")

    ended = multirun(*GRID, play=damage)
    assert (ended.code, ended.ran, ended.err[0]) == (1, ALL, "error: 1 of 4 jobs did not finish")
    assert "lr-0.1_seed-0" in ended.err[1]
    assert "remove that folder" in ended.err[1]
    assert len(folders()) == 4


def test_a_stopped_job_that_cannot_be_continued_now_is_not_begun_anew(multirun):
    multirun(*GRID)
    Record.read(job(0.1, 1)).update(status="stopped")

    def refuse(folder):
        raise ConfigError("data.root: no folder data")

    again = multirun(*GRID, resume=refuse)
    assert (again.code, again.ran, again.resumed) == (1, [], [])
    assert again.err[1].startswith("error: optimizer.lr=0.1 seed=1: stopped: data.root: no folder data")
    assert multirun(*GRID).resumed == [(0.1, 1)]


@pytest.mark.parametrize(("name", "hint"), [("sweep=a", ""), ("", " with sweep=")])
def test_a_signal_ends_the_sweep_and_the_same_command_continues_it(name, hint, multirun):
    def play(config):
        if config.seed == 1:
            record = Record.read(Path(config.folder))
            record.update(status="stopped")
            os.kill(os.getpid(), signal.SIGTERM)

    arguments = [word for word in (name, "seed=0,1,2") if word]
    stopped = multirun(*arguments, play=play)
    assert stopped.code == 143
    assert [seed for _, seed in stopped.ran] == [0, 1]
    assert stopped.err[-2] == "stopped by SIGTERM"
    assert stopped.err[-1].startswith(f"1 of 3 jobs are done; the same command{hint}")
    (folder,) = Path("outputs/sweeps").iterdir()
    again = multirun(f"sweep={folder.name}", "seed=0,1,2")
    assert (again.code, again.ran, again.resumed) == (0, [(0.1, 2)], [(0.1, 1)])


def test_two_processes_do_not_run_one_sweep(multirun):
    multirun("sweep=a", "seed=0,1")
    other = Record(Path("outputs/sweeps/a"), {})
    other.lock()
    refused = multirun("sweep=a", "seed=0,1,2")
    other.release()
    assert (refused.code, refused.ran) == (2, [])
    assert refused.err == ["error: outputs/sweeps/a is being written by another process; wait for it, or stop it first"]
    assert len(multirun("sweep=a", "seed=0,1,2").ran) == 1


def test_a_job_that_fails_before_it_has_begun_is_not_hidden(multirun):
    def refuse(config):
        (Path(config.folder) / "result.json").unlink()
        raise RunFailed("no such thing")

    done = multirun("sweep=a", "seed=0,1", play=refuse)
    assert done.code == 1
    assert len(done.err) == 3
    assert {Record.read(Path("outputs/sweeps/a", name)).values["status"] for name in folders()} == {"failed"}


def test_a_job_that_diverged_is_named_each_time_but_not_repeated(multirun):
    def diverge(config):
        Record.read(Path(config.folder)).update(status="diverged", error="diverged: the loss of update 2 is …")
        raise RunFailed("diverged: the loss of update 2 is …")

    first, second = (multirun("sweep=a", "seed=0,1", play=diverge) for _ in range(2))
    assert len(first.ran) == 2
    assert second.ran == []
    assert first.code == second.code == 1
    assert first.err == second.err
    assert "seed=0: diverged: the loss of update 2" in first.err[1]


def test_further_values_are_further_jobs_and_others_are_left_alone(multirun):
    multirun("sweep=a", "seed=0,1", "optimizer.lr=0.1")
    more = multirun("sweep=a", "seed=0,1,2", "optimizer.lr=0.1,0.2")
    assert sorted(more.ran) == [(0.1, 2), (0.2, 0), (0.2, 1), (0.2, 2)]
    fewer = multirun("sweep=a", "optimizer.lr=0.2", "seed=2")  # in any order
    assert (fewer.code, fewer.ran) == (0, [])
    assert len(folders()) == 6
    assert sweep_json()["jobs"] == [job(0.2, 2).name]
    other = multirun("sweep=a", "seed=0,1", "model=perceptron")
    assert len(other.ran) == 2
    assert len(folders()) == 8


def test_a_job_of_a_changed_config_is_another_job(multirun, monkeypatch):
    multirun(*GRID)
    before = sweep_json()["jobs"]

    def changed(key, value):
        def compose_changed(name, lines):
            config = composed(name, lines)
            if config.seed == 1:
                config[key] = value
            return config

        monkeypatch.setattr(grid, "composed", compose_changed)

    changed("steps_per_execution", 3)  # not a number of the run changes
    assert multirun(*GRID).ran == []
    changed("monitor", "val/loss")
    assert multirun(*GRID).ran == [(0.1, 1), (0.2, 1)]
    assert [old == new for old, new in zip(before, sweep_json()["jobs"], strict=True)] == [True, False, True, False]
    assert len(folders()) == 6


def test_a_seed_drawn_at_random_is_no_other_config(multirun):
    def draw(config):
        path = Path(config.folder) / "config.yaml"
        path.write_text(path.read_text().replace("seed: null\n", "seed: 123\n"))

    multirun("sweep=a", "seed=null", "optimizer.lr=0.1,0.2", play=draw)
    assert multirun("sweep=a", "seed=null", "optimizer.lr=0.1,0.2").ran == []


def test_a_sweep_without_a_name_has_a_folder_of_its_own_each_time(multirun):
    for _ in range(2):
        assert len(multirun("seed=0,1,0").ran) == 2  # the same job twice is one
    assert len(list(Path("outputs/sweeps").iterdir())) == 2


# Studies


@pytest.mark.parametrize("options", [(), ("-m",)], ids=str)
def test_a_study_is_a_sweep_of_its_name(options, multirun):
    done = multirun("study=batching", "seed=7", options=options)
    described = sweep_json("batching")
    assert (done.code, len(done.ran)) == (0, len(described["jobs"]))
    assert len(done.ran) > 1  # the study's own grid
    assert {seed for _, seed in done.ran} == {7}  # its seeds replaced
    assert described["study"]["question"]
    config = Record.read(Path("outputs/sweeps/batching", described["jobs"][0])).config()
    assert config.study == described["study"]


def test_the_command_line_adds_to_the_grid_of_a_study(multirun):
    done = multirun("study=batching", "seed=7", "data.batch_size=8", "optimizer.lr=0.1,0.2", "sweep=other")
    assert {lr for lr, _ in done.ran} == {0.1, 0.2}
    assert all("batch_size-8" in name for name in folders("other"))


def test_a_process_of_ddp_repeats_one_job_of_a_study(multirun, tmp_path):
    folder = tmp_path / "job"
    arguments = ("study=batching", "seed=1", "optimizer.lr=0.1", "hydra.mode=RUN", f"hydra.run.dir={folder}")
    assert multirun(*arguments, options=()).ran == [(0.1, 1)]
    assert (folder / "result.json").is_file()


# Names of folders

SIMILAR = [
    ["model.hidden_sizes=[1,2]"], ["model.hidden_sizes=[1]"], ["optimizer.lr=1e-3"], ["optimizer.lr=1e3"], [],
    *([f"logger.tensorboard.name='{name}'"] for name in ("x y", "x-y", "x/y", "X", "ü", "ö", "x" * 99, "x" * 98)),
    ["logger.tensorboard.name=x", "seed=1"], ["optimizer=adam"], ["~callbacks.history"], ["study=batching"],
]  # fmt: skip


def test_different_overrides_never_share_a_folder_and_names_are_short_and_plain():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        names = [job_name(overrides) for overrides in SIMILAR]
        assert names == [job_name(list(reversed(overrides))) for overrides in SIMILAR]  # in whatever order
        assert job_name(["model=mlp_dropout", "data.batch_size=1"]).startswith("batch_size-1_model-mlp_dropout_")
        assert job_name(["study=batching", "seed=1"]).startswith("seed-1_")
    assert len(set(map(str.lower, names))) == len(names)
    for name in names:
        assert 0 < len(name) <= 100
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


# What jobs share


def test_data_is_loaded_once_for_all_jobs_of_a_sweep_only(make_config, monkeypatch):
    loaded, make = [], build.make

    def counting(options, key, **more):
        loaded.append(key)
        return make(options, key, **more)

    monkeypatch.setattr(build, "make", counting)
    build.kept_source.cache_clear()
    for multirun, expected in ((True, 1), (False, 3)):
        monkeypatch.setattr(build, "is_multirun", lambda multirun=multirun: multirun)
        first, second = (build.data_module(make_config()).source for _ in range(2))
        assert (first is second) == multirun
        assert loaded == ["data"] * expected
    build.kept_source.cache_clear()


# As a program. It starts Python, so there is one.


def test_a_failed_job_of_a_sweep_does_not_stop_or_hide(start, tmp_path):
    process = start(
        "train.py", "-m", "model=mlp_dropout", "model.dropout=0.5,[0.2,0.5]", "optimizer.lr=0.1,1e+30",
        "data.num_samples=80", "trainer=cpu", "trainer.max_epochs=2", "~callbacks.figures", "~callbacks.tensorboard",
        "hydra.sweep.dir=sweep", folder=tmp_path,
    )  # fmt: skip
    out, _ = process.communicate(timeout=120)
    found = {tuple(result["overrides"][1:3]): result["status"] for result in results(tmp_path / "sweep").values()}
    assert found == {
        (f"model.dropout={dropout}", f"optimizer.lr={lr}"): "finished" if lr == "0.1" else "diverged"
        for dropout in ("0.5", "[0.2,0.5]")
        for lr in ("0.1", "1e+30")
    }
    assert all("model-mlp_dropout" in name for name in results(tmp_path / "sweep"))
    assert process.returncode == 1
    assert "Traceback" not in out
    assert "update 2 is not a finite number" in out
    assert "\x1b" not in out  # a pipe gets no control codes
    assert "\r" not in out


LONG = (
    "data.num_samples=200", "data.batch_size=2", "trainer=cpu", "trainer.max_epochs=10", "callbacks=none",
    "logger=none", "optimizer.lr=0.01,0.02,0.05,0.1", "seed=range(6)",
)  # fmt: skip


def results(folder, keys=("status", "weights_digest", "updates", "metrics", "overrides")):
    """Of each job that has begun, what must not depend on how it was run."""
    found = {}
    for path in folder.glob("*/result.json"):
        result = json.loads(path.read_text())
        found[path.parent.name] = {key: result.get(key) for key in keys}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_of_24_jobs_interrupted_equals_the_unbroken_one(launcher, start, tmp_path):
    whole, broken = tmp_path / "outputs/sweeps/whole", tmp_path / "outputs/sweeps/broken"
    out, _ = start("train.py", "-m", *LONG, "sweep=whole", folder=tmp_path).communicate(timeout=600)
    expected = results(whole)
    assert len(expected) == 24, out
    assert {result["status"] for result in expected.values()} == {"finished"}

    arguments = ("train.py", "-m", *LONG, "sweep=broken", f"hydra/launcher={launcher}")
    done_before = {}
    for number, enough in ((signal.SIGTERM, 5), (signal.SIGKILL, 11), (signal.SIGINT, 17)):
        process = start(*arguments, folder=tmp_path)
        while sum(result["status"] == "finished" for result in results(broken).values()) < enough:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(random.random())
        os.killpg(process.pid, number)  # as a terminal does, or a machine that goes down
        out, _ = process.communicate(timeout=300)
        assert process.returncode == (128 + number if number != signal.SIGKILL else -number), out
        if number != signal.SIGKILL:
            assert "the same command continues the sweep" in out
        times = results(broken, keys=("status", "started", "finished"))
        assert all(times[name] == result for name, result in done_before.items())  # no finished job was run again
        done_before = {name: result for name, result in times.items() if result["status"] == "finished"}
        assert enough <= len(done_before) < 24
    out, _ = start(*arguments, folder=tmp_path).communicate(timeout=600)
    assert results(broken) == expected, out
    times = results(broken, keys=("status", "started", "finished"))
    assert all(times[name] == result for name, result in done_before.items())
    assert (broken / "summary.csv").read_text().count("\n") == (whole / "summary.csv").read_text().count("\n")


@pytest.mark.slow
def test_jobs_can_be_submitted(start, tmp_path):
    arguments = ("train.py", "-m", "sweep=a", *LONG[:-2], "seed=0,1", "hydra/launcher=submitit_local")
    process = start(*arguments, folder=tmp_path)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert {result["status"] for result in results(tmp_path / "outputs/sweeps/a").values()} == {"finished"}
    assert out.count("  val/acc  ") == 2


def test_a_job_is_composed_as_hydra_composes_it_though_files_are_read_once():
    of_all = ["hydra.sweep.dir='outputs/sweeps/a b'", "hydra.job_logging.root.handlers=[file]"]
    jobs = [
        ["model=mlp_dropout", "data.batch_size=4", "seed=1"],
        ["data.batch_size=full", "model=mlp_dropout", "seed=2", "+data.extra=[1]", "~callbacks.checkpoint"],
        ["seed=3", "regularization=early_stopping", "model.hidden_sizes=[8,4]"],
    ]
    with hydra_started():
        loader = GlobalHydra.instance().config_loader()
        shared = loader.load_configuration("train", ["sweep=a", "seed=0,1"], RunMode.MULTIRUN)
        once = ComposedOnce(loader)
        for job in jobs:
            lines = [*job, *of_all, f"hydra.sweep.subdir='{job[0]}'"]
            ours, hydras = once.load_sweep_config(shared, lines), loader.load_sweep_config(shared, lines)
            assert OmegaConf.to_container(ours) == OmegaConf.to_container(hydras)
    assert len(once.known) == 2
