"""A sweep that is killed again and again, and its command repeated: every job is run once, and all of them."""

import csv
import random
import time
from pathlib import Path

import child
import pytest

from mlplab.record import Record

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


@pytest.mark.faults
def test_a_sweep_that_is_killed_does_what_is_left(begin, run, tmp_path, tally):
    sweep = [*SWEEP, "seed=range(10)", "optimizer.lr=0.1,0.2"]
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, broken = (tmp_path / name / "outputs" / "sweeps" / "many" for name in ("whole", "broken"))
    ended = run(child.run_command, sweep, cwd=tmp_path / "whole")
    assert ended.code == 0, ended.output
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
    ended = run(child.run_command, sweep, cwd=tmp_path / "broken")
    assert ended.code == 0, ended.output
    now = finished(broken)
    assert now.items() >= done.items(), "a finished job was run again"
    assert now.keys() == finished(whole).keys()
    assert len(now) == 20
    tally("jobs of the killed sweep, each finished once", len(now))
    assert table(broken) == table(whole)
