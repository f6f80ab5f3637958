"""A sweep that is killed again and again, and its command repeated: every job is run once, and all of them."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import child
import pytest
from comparing import compared, differences

from mlplab.config.check import CONF
from mlplab.runs.record import Record

SWEEP = (
    "-m", "data.num_samples=80", "trainer=cpu", "trainer.max_epochs=2", "callbacks=none", "logger=none", "test=false",
    "trainer.enable_progress_bar=false", "sweep=many", "checkpoint.max_share=1",
)  # fmt: skip
KILLS = 10
ASIDE = {"fit_seconds", "seconds", "started", "finished", "config_digest", "git_commit"}


def finished(folder: Path) -> dict[str, bytes]:
    """The records of the jobs that are finished."""
    found = {}
    for path in folder.glob("*/result.json"):
        if Record.read(path.parent).values["status"] == "finished":
            found[path.parent.name] = path.read_bytes()
    return found


def table(folder: Path) -> list[dict[str, str]]:
    """The sweep's table, without times and what depends on the place."""
    with (folder / "summary.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in ASIDE}
                for row in csv.DictReader(file)]  # fmt: skip


def assert_equal(whole: Path, broken: Path) -> None:
    assert finished(whole).keys() == finished(broken).keys()
    for job in finished(whole):
        assert not differences(whole / job, broken / job)


@pytest.mark.faults
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_sweep_and_the_same_command_continues_it(times, run, tmp_path, tally):
    sweep = [*SWEEP, "seed=0,1,2", "data.batch_size=5", "steps_per_execution=1"]
    whole, broken = places(tmp_path)
    run(child.run_command, sweep, cwd=tmp_path / "whole")
    fault = child.Interrupted("SIGINT", 13, times=times)
    ended = run(child.run_command, sweep, cwd=tmp_path / "broken", fault=fault, code=130)
    assert "0 of 3 jobs are done; the same command continues the sweep" in ended.output
    run(child.run_command, sweep, cwd=tmp_path / "broken")
    assert_equal(whole, broken)
    tally("sweeps ended by Ctrl-C, once or twice, and continued exactly")


@pytest.mark.faults
def test_a_second_ctrl_c_ends_a_sweep_and_its_processes_at_once(tmp_path, tally):
    command = [sys.executable, str(CONF.parent / "train.py"), *SWEEP, "seed=0,1,2", "data.batch_size=1",
               "steps_per_execution=1", "trainer.max_epochs=8", "hydra/launcher=joblib"]  # fmt: skip
    whole, broken = places(tmp_path)
    subprocess.run(command, cwd=tmp_path / "whole", check=True)
    sweep = subprocess.Popen(
        command, cwd=tmp_path / "broken", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not list(broken.glob("*/checkpoints/last.ckpt")):
        assert sweep.poll() is None
        time.sleep(0.02)
    for _ in range(2):
        sweep.send_signal(signal.SIGINT)
        time.sleep(0.05)
    printed, _ = sweep.communicate(timeout=20)
    assert sweep.returncode == 130, printed
    assert "the same command continues the sweep" in printed
    subprocess.run(command, cwd=tmp_path / "broken", check=True)
    assert_equal(whole, broken)
    tally("sweeps in several processes ended by a second Ctrl-C and continued exactly")


def places(folder: Path) -> tuple[Path, Path]:
    """Where the unbroken sweep and the other one will be."""
    for name in ("whole", "broken"):
        (folder / name).mkdir()
    whole, broken = (folder / name / "outputs" / "sweeps" / "many" for name in ("whole", "broken"))
    return whole, broken


@pytest.mark.faults
def test_a_sweep_that_is_killed_does_what_is_left(begin, run, tmp_path, tally):
    sweep = [*SWEEP, "seed=range(10)", "optimizer.lr=0.1,0.2"]
    whole, broken = places(tmp_path)
    run(child.run_command, sweep, cwd=tmp_path / "whole")
    chance, done = random.Random(0), dict[str, bytes]()
    for target in sorted(chance.sample(range(19), KILLS)):
        wait = begin(child.run_command, sweep, cwd=tmp_path / "broken")
        while len(finished(broken)) < target and wait.process.is_alive():
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        wait.process.kill()
        ended = wait()
        assert ended.code == -9, ended.output
        now = finished(broken)
        assert now.items() >= done.items(), "a finished job was run again"
        done = now
        tally("kills of a sweep")
    run(child.run_command, sweep, cwd=tmp_path / "broken")
    now = finished(broken)
    assert now.items() >= done.items(), "a finished job was run again"
    assert now.keys() == finished(whole).keys()
    assert len(now) == 20
    tally("jobs of the killed sweep, each finished once", len(now))
    assert list(compared(table(broken), table(whole), "summary.csv")) == []
