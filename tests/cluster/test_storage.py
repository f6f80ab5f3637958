"""One storage for several processes: each trial once, what was killed repeated, and what goes wrong in a line."""

import json
import os
import signal
import time
from collections import Counter

import pytest
from jobs import SCRIPTS, saved, sh, wait_for

pytestmark = pytest.mark.cluster

COMMON = (
    "scripts/tune.py", "search=mlp", "pruner=none",
    "overrides=[data=passing,data.num_samples=1000,trainer.max_epochs=150,steps_per_execution=1]",
)  # fmt: skip


@pytest.fixture(params=["postgres", "journal"])
def storage(request, tmp_path):
    if request.param == "journal":
        return str(tmp_path / "study.journal")
    return request.getfixturevalue("postgres")


def tune(start, name, storage, *more, n_trials=4):
    return start(*COMMON, f"name={name}", f"storage='{storage}'", f"n_trials={n_trials}", *more)


def trials(folder):
    return [line.split(",") for line in (folder / "trials.csv").read_text().splitlines()[1:]]


def test_two_processes_run_each_trial_once_and_repeat_that_of_a_killed_one(storage, start, tmp_path):
    name = f"shared{time.time_ns()}"
    folder = tmp_path / "outputs" / "tuning" / name
    first = tune(start, name, storage)
    wait_for(lambda: saved(folder) or list(folder.rglob("result.json")))
    os.killpg(first.process.pid, signal.SIGKILL)
    killed = json.loads(next(folder.rglob("result.json")).read_text())["overrides"]
    time.sleep(62)  # until its signs of life are missed
    for program in [tune(start, name, storage), tune(start, name, storage)]:
        program.end()
    outcomes = Counter(row[1] for row in trials(folder))
    print(f"\n{outcomes}")
    assert outcomes["interrupted"] == 1
    assert 4 <= outcomes["complete"] <= 5
    ran = [json.loads(path.read_text())["overrides"] for path in folder.rglob("result.json")]
    assert sum(one == killed for one in ran) == 2  # the killed one, and its repetition
    assert len({row[0] for row in trials(folder)}) == len(trials(folder))


def test_a_database_that_starts_again_in_mid_search_is_waited_for(postgres, start, tmp_path):
    name = f"again{time.time_ns()}"
    program = tune(start, name, postgres, n_trials=3)
    program.says("trial 0")
    sh("sh", str(SCRIPTS / "postgres_local.sh"), "stop")
    time.sleep(5)
    sh("sh", str(SCRIPTS / "postgres_local.sh"))
    out = program.end()
    assert "Traceback" not in out
    assert Counter(row[1] for row in trials(tmp_path / "outputs" / "tuning" / name))["complete"] == 3


REFUSED = {
    "postgresql+psycopg://optuna:secret@127.0.0.1:1/optuna": ("optuna:***@127.0.0.1:1", "onnection"),
    "postgresql+psycopg://optuna:secret@127.0.0.1:5433/optuna": ("optuna:***@127.0.0.1:5433", "password"),
    "mysql+nosuchdriver://a:secret@127.0.0.1/optuna": ("a:***@127.0.0.1", "nosuchdriver"),
    "/proc/none/study.journal": ("/proc/none", ""),
}


@pytest.mark.parametrize(("address", "said"), REFUSED.items())
def test_a_storage_that_cannot_be_had_is_named_in_a_line(address, said, postgres, start, tmp_path):
    out = tune(start, "refused", address).end(code=2)
    (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert all(part in line for part in said)
    assert "secret" not in line
    assert "Traceback" not in out
    assert not (tmp_path / "outputs").exists()


def test_a_full_disk_below_a_journal_is_named_and_what_was_found_stays(start, slurm, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk))
    try:
        program = tune(start, "full", str(disk / "study.journal"))
        program.says("trial 0")
        sh("sh", "-c", f"head -c 2000000 /dev/zero > {disk}/filler", code=None)
        out = program.end(code=2)
        (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
        assert "No space left" in line
        (disk / "filler").unlink()
        assert "1 of 4 trials" in tune(start, "full", str(disk / "study.journal")).end()
    finally:
        sh("umount", "-l", str(disk))
