"""Runs that SLURM stops and starts: whatever happens to a batch job, the weights are those of an unbroken run."""

import shlex

import pytest
from jobs import LONG, fail_node, hurry, preempt, python, results, saved, sh, state, wait_for, was_started_again

pytestmark = pytest.mark.cluster


def requeued(job):
    sh("scontrol", "requeue", job)


def near_its_time_limit(job):
    # SLURM sends the same with --signal=USR1@60 to what srun has started, with B:USR1@60 to the script.
    has_step = f"{job}.0" in sh("squeue", "--noheader", "--steps", f"--jobs={job}")
    sh("scancel", *([] if has_step else ["--batch"]), "--signal=USR1", job)


ELSEWHERE = ("hydra.run.dir=elsewhere/run", "+trainer.min_epochs=1", "'~callbacks.checkpoint'")


@pytest.mark.parametrize(
    ("interrupt", "command", "extra"),
    [
        (requeued, "srun", ()),
        (near_its_time_limit, "srun", ()),
        (preempt, "srun", ()),
        (fail_node, "srun", ()),
        (near_its_time_limit, "exec", ELSEWHERE),
    ],
)
def test_a_batch_job_goes_on_by_itself(interrupt, command, extra, sbatch, whole, tmp_path):
    job = sbatch([f"{command} {shlex.join(python('train.py', *LONG))} {' '.join(extra)}"], "--partition=low")
    wait_for(lambda: saved(tmp_path))
    interrupt(job)
    wait_for(lambda: was_started_again(job))
    hurry(job)
    wait_for(lambda: "finished" in results(tmp_path, "status").values())
    (digest,) = results(tmp_path).values()
    print(f"\n{interrupt.__name__}, {command}: {digest[:16]}, without an interruption: {whole[:16]}")
    assert digest == whole
    assert wait_for(lambda: state(job) == "COMPLETED")


def test_a_cancelled_job_does_not_start_again_and_the_command_continues_it(sbatch, start, whole, tmp_path):
    job = sbatch([f"srun {shlex.join(python('train.py', *LONG))}"])
    wait_for(lambda: saved(tmp_path))
    sh("scancel", job)
    wait_for(lambda: state(job) == "CANCELLED")
    assert set(results(tmp_path, "status").values()) == {"stopped"}
    start("train.py", "resume=last").end()
    assert set(results(tmp_path).values()) == {whole}


def test_a_job_goes_on_after_its_real_time_limit(sbatch, tmp_path, start):
    longer = (*LONG, "trainer.max_epochs=500")
    job = sbatch([f"srun {shlex.join(python('train.py', *longer))}"], "--time=1", "--signal=USR1@10")

    def finished():
        if state(job) == "PENDING" and was_started_again(job):  # to be done soon, also on a busy machine
            sh("scontrol", "update", f"jobid={job}", f"timelimit={60 if any(tmp_path.rglob('last.ckpt')) else 3}")
            hurry(job)
        return "finished" in results(tmp_path, "status").values()

    wait_for(finished, seconds=900)
    assert was_started_again(job)
    ended = results(tmp_path)
    start("train.py", *longer, "hydra.run.dir=whole").end()
    assert set(results(tmp_path).values()) == set(ended.values())
