"""A full file system: the checkpoint saved before stays whole, the message is one line, space makes the run go on."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import child
import pytest
from comparing import differences

from mlplab.files import read_checkpoint

MEGABYTES = 8
OVERRIDES = (
    "model=mlp_dropout", "optimizer=momentum", "data.batch_size=5", "threads=1", "steps_per_execution=1",
    "checkpoint.every_n_updates=3", "checkpoint.max_share=1", "trainer.max_epochs=3",
    "callbacks.update_monitor.every_n_updates=1", "callbacks.progress_bar=null", "trainer.enable_progress_bar=false",
)  # fmt: skip
POINTS = [
    (update, method, free)
    for update, method in ((4, "training_step"), (8, "training_step"), (12, "on_validation_epoch_end"),
                           (24, "on_train_epoch_end"), (36, "on_validation_epoch_end"), (36, "on_test_epoch_end"))
    for free in (0, 4, 12, 40)
]  # fmt: skip
"""After which update, in which method of the classifier, the disk becomes full, but for so many KiB."""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of its own of a few megabytes."""
    place = tmp_path_factory.mktemp("disk")
    size = f"size={MEGABYTES}m"
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small file system needs more rights")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def disk(small_disk: Path) -> Iterator[Path]:
    """The same, empty again after each test."""
    yield small_disk
    for path in small_disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "points", [POINTS[4:5], pytest.param(POINTS, marks=pytest.mark.faults)], ids=["one point", "all points"]
)
def test_a_full_disk_keeps_the_checkpoint_and_the_run_goes_on(points, train, run, disk, tmp_path, tally):
    whole = tmp_path / "whole"
    train(*OVERRIDES, folder="whole")
    for update, method, free in points:
        fault = child.DiskFull(disk, free, update, method)
        ended = train(*OVERRIDES, folder=str(disk / "run"), fault=fault, code=None)
        story = f"after update {update}, {method}, {free} KiB free: exit {ended.code}\n{ended.output}"
        assert ended.code == 1 or free, story
        if ended.code:
            assert ended.code == 1, story
            assert "No space left on device" in ended.error, story
            assert f"python train.py resume={disk / 'run'}" in ended.error, story
            assert "Exception ignored" not in ended.output, story
            for path in (disk.parent / "before").iterdir():
                read_checkpoint(disk / "run" / "checkpoints" / path.name)
            tally("points at which the disk was full")
        (disk / "filler").unlink()
        run(child.resume, disk / "run", story=story)
        # A test whose result found no place is made again, and both looks at the test set are counted.
        again = ["result.json.test_evaluations: 1 | 2"] if method == "on_test_epoch_end" else []
        assert differences(whole, disk / "run") in ([], again), (story, differences(whole, disk / "run"))
        shutil.rmtree(disk / "run")
        shutil.rmtree(disk.parent / "before")
