"""SIGKILL in the midst of saving: every checkpoint on disk is whole, and not more than one save is lost."""

import functools
import itertools
import random
from pathlib import Path

import child
import pytest
from comparing import differences
from repeating import repeated

from mlplab.files import read_checkpoint
from mlplab.runs.record import Record

OVERRIDES = (
    "model=mlp_sequential", "model.hidden_sizes=[256,256]", "optimizer=adam", "data.batch_size=5", "threads=1",
    "steps_per_execution=2", "checkpoint.every_n_updates=2", "checkpoint.max_share=1", "trainer.max_epochs=5",
    "callbacks=none", "logger=none", "trainer.enable_progress_bar=false", "test=false",
)  # fmt: skip
INTERVAL = 2  # updates from one save to the next


@pytest.fixture(scope="module")
def other_file_system(tmp_path_factory) -> Path:
    """A folder for temporary files that is not on the file system of the run folders."""
    here = tmp_path_factory.getbasetemp().stat().st_dev
    for path in (Path("/dev/shm"), Path("/run"), Path("/tmp"), Path.home()):
        if path.is_dir() and path.stat().st_dev != here:
            return path
    pytest.skip("there is no second file system")


@repeated(short=1, full=200)
def test_a_kill_while_saving_costs_at_most_one_save(count, train, run, tmp_path, other_file_system, tally):
    """Until `count` kills have hit a save; runs that come to their end equal the one that was not killed."""
    chance, killed = random.Random(0), 0
    environments = itertools.cycle([{}, {"TMPDIR": str(other_file_system)}])
    whole = tmp_path / "whole"
    train(*OVERRIDES, folder="whole")
    for number in itertools.count():
        folder = tmp_path / f"run-{number}"
        launch = functools.partial(train, *OVERRIDES, folder=folder.name)
        while killed < count:
            environment, saves = next(environments), tmp_path / "saves.txt"
            fault = child.KilledWhileSaving(chance.randint(1, 4), saves, seed=chance.randrange(2**32))
            ended = launch(environment=environment, fault=fault, code=None)
            launch = functools.partial(run, child.resume, folder)
            if ended.code == 0:
                break
            assert ended.code == -9, ended.output
            log = [line.split() for line in saves.read_text().splitlines()]
            check_checkpoints(folder, log)
            Record.read(folder).config()
            if log[-1][0] == "begun":
                killed += 1
                tally(f"kills while saving, {'TMPDIR on another file system' if environment else 'own file system'}")
        run(child.resume, folder)
        assert not differences(whole, folder)
        assert not list(folder.rglob("*.tmp")), "what a crash has left is tidied up"
        if killed >= count:
            return


def check_checkpoints(folder: Path, log: list[list[str]]) -> None:
    """All checkpoints are whole; last.ckpt is the latest one saved, or the one that was being saved."""
    saved = {path.name: read_checkpoint(path)["global_step"] for path in folder.glob("checkpoints/*.ckpt")}
    begun = [int(step) for what, name, step in log if (what, name) == ("begun", "last.ckpt")]
    done = [int(step) for what, name, step in log if (what, name) == ("done", "last.ckpt")]
    if begun:
        assert saved.get("last.ckpt", 0) in {begun[-1], begun[-1] - INTERVAL, *done[-1:]}, (saved, log)
        assert saved.get("last.ckpt", 0) >= max(done, default=0)
