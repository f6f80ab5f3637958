"""Several launches at once: each has a folder of its own, and a run is continued by one process at a time."""

import time

import child
import pytest
from comparing import differences
from repeating import repeated

from mlplab.runs.record import Record

BARE = ("callbacks=none", "logger=none", "test=false", "trainer.enable_progress_bar=false")
QUICK = ("data.num_samples=80", "trainer=cpu", "trainer.max_epochs=1", *BARE)


@pytest.mark.faults
def test_launches_in_the_same_second_have_folders_of_their_own(begin, tmp_path, tally):
    launches = [begin(child.run_command, list(QUICK), fault=child.in_the_same_second) for _ in range(8)]
    for wait in launches:
        ended = wait()
        assert ended.code == 0, ended.output
    folders = list((tmp_path / "outputs" / "train").iterdir())
    assert len(folders) == 8
    assert len({folder.name.rpartition("_")[0] for folder in folders}) == 1
    assert {Record.read(folder).values["status"] for folder in folders} == {"finished"}
    tally("launches in the same second, a folder each", 8)


@repeated(short=2, full=6)
def test_one_process_continues_a_run_and_the_others_are_refused(count, train, begin, tmp_path, tally):
    """First a process is killed that holds the lock; then `count` processes want to go on from there."""
    whole, broken, go = tmp_path / "whole", tmp_path / "broken", tmp_path / "go"
    train("data.batch_size=5", *BARE, folder="whole")
    train("data.batch_size=5", *BARE, folder="broken", fault=child.Interrupted("SIGKILL", 15), code=-9)
    launches = [begin(child.resume, broken, fault=child.Paused(go)) for _ in range(count)]
    deadline = time.monotonic() + 100
    while sum(wait.process.is_alive() for wait in launches) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    go.touch()
    ended = [wait() for wait in launches]
    assert sorted(end.code for end in ended) == [0] + [2] * (count - 1), [end.output for end in ended]
    for end in ended:
        if end.code:
            (line,) = end.output.strip().splitlines()
            assert line == f"error: {broken} is being written by another process; wait for it, or stop it first"
            tally("second processes on a run refused")
    assert not differences(whole, broken)
    tally("locks of killed processes that kept nobody out")
