"""Sweeps by hydra/launcher=slurm: whatever happens to their jobs, each ends once, with an unbroken run's weights."""

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from jobs import BARE, LONG, fail_node, hurry, preempt, python, results, saved, sh, state, wait_for

pytestmark = pytest.mark.cluster

LAUNCHER = ("hydra/launcher=slurm", "hydra.launcher.timeout_min=10", "hydra.launcher.partition=low")
GRID = ("-m", *LONG, "sweep=a", "seed=0,1,2")
SWEEP = (*GRID, *LAUNCHER)
FOLDER = "outputs/sweeps/a"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, slurm):
    """The digests of SWEEP's jobs, trained one after the other in this order of seeds."""
    folder = tmp_path_factory.mktemp("unbroken")
    sh(*python("train.py", *GRID, f"hydra.sweep.dir={folder}"))
    return results(folder)


@pytest.fixture
def sweep(start, slurm, tmp_path):
    """The sweep, once a job of it has saved; what is left of it in the queue is cancelled."""
    program = start("train.py", *SWEEP)
    wait_for(lambda: saved(tmp_path / FOLDER))
    yield program
    sh("scancel", "--me", "--name=train")


def check(folder, unbroken):
    found = results(folder)
    for name, digest in unbroken.items():
        print(f"\n{name[-8:]}: {found[name][:16]}, without an interruption: {digest[:16]}")
    assert found == unbroken


def numbers(program):
    """SLURM's numbers of the jobs, in their order."""
    return re.findall(r"^SLURM (\d+_\d+)  seed", program.output.read_text(), re.MULTILINE)


def running(program):
    return next(number for number in numbers(program) if state(number) == "RUNNING")


def requeue(job):
    sh("scontrol", "requeue", job)


def time_limit(job):
    sh("scancel", "--signal=USR2", job)
    wait_for(lambda: state(job) != "RUNNING")


@pytest.mark.parametrize("interrupt", [requeue, time_limit, preempt, fail_node])
def test_what_the_cluster_takes_goes_on(interrupt, sweep, unbroken, tmp_path):
    interrupt(running(sweep))
    for number in numbers(sweep):
        hurry(number)
    out = sweep.end()
    assert out.count("  finished  ") == 3
    check(tmp_path / FOLDER, unbroken)


def test_a_killed_job_is_named_the_others_are_waited_for_and_the_command_does_the_rest(
    sweep, start, unbroken, tmp_path
):
    folder = next((tmp_path / FOLDER).rglob("last.ckpt")).parents[1]
    log = str(folder / "train.log")
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(opened.readlink()) == log:
                os.kill(int(opened.parts[2]), signal.SIGKILL)
    out = sweep.end(code=1)
    assert out.count("  finished  ") == 2
    assert "1 of 3 jobs did not finish" in out
    again = start("train.py", *SWEEP).end()
    assert "2 of them done before" in again
    check(tmp_path / FOLDER, unbroken)


def test_ctrl_c_empties_the_queue_and_the_command_does_the_rest(sweep, start, unbroken, tmp_path):
    os.kill(sweep.process.pid, signal.SIGINT)
    sweep.says("what waits in SLURM's queue is cancelled")
    assert "the same command continues the sweep" in sweep.end(code=130)
    assert not sh("squeue", "--noheader", "--me", "--name=train")
    assert "running" not in results(tmp_path / FOLDER, "status").values()
    start("train.py", *SWEEP).end()
    check(tmp_path / FOLDER, unbroken)


def test_a_command_repeated_while_its_jobs_run_waits_for_them(sweep, start, unbroken, tmp_path):
    os.kill(sweep.process.pid, signal.SIGKILL)
    out = start("train.py", *SWEEP).end()
    assert out.count("of an earlier command") == 3
    check(tmp_path / FOLDER, unbroken)
    assert len(numbers(sweep)) == 3
    assert set(results(tmp_path / FOLDER, "status").values()) == {"finished"}


def test_a_waiting_job_that_is_cancelled_is_not_waited_for(sweep):
    last = numbers(sweep)[-1]
    sh("scancel", last)
    out = sweep.end(code=1)
    assert f"SLURM {last}  seed=2  CANCELLED" in out
    assert out.count("  finished  ") == 2


REFUSED = {
    "hydra.launcher.partition=nowhere": "SLURM refuses these jobs: Invalid partition name specified",
    "hydra.launcher.mem_gb=99999": "SLURM refuses these jobs: Requested node configuration is not available",
}


@pytest.mark.parametrize(("override", "said"), REFUSED.items())
def test_what_slurm_refuses_is_said_in_a_line(override, said, start, slurm, tmp_path):
    out = start("train.py", "-m", *BARE, "sweep=a", "seed=0,1", "hydra/launcher=slurm", override).end(code=2)
    (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in out
    assert "sbatch" not in out
    assert not (tmp_path / FOLDER).exists()
