"""A sweep's jobs in SLURM's queue: what is submitted, submitted again, or given up. The queue is played."""

import json
from types import SimpleNamespace

import pytest

from mlplab import cluster
from mlplab.cluster import Queued
from mlplab.errors import ConfigError
from mlplab.sweeps import slurm
from mlplab.sweeps.grid import Job
from mlplab.sweeps.slurm import SlurmJobs, check_slurm, refusal


class Queue:
    """SLURM as SlurmJobs sees it: each job that is submitted ends as `ends` says, label → states in turn."""

    def __init__(self, ends):
        self.ends, self.arrays, self.states = ends, [], {}

    def array(self, jobs, *, at_once):
        self.arrays.append(([job.label for job in jobs], at_once))
        numbers = {job: f"{len(self.arrays)}_{index}" for index, job in enumerate(jobs)}
        for job, number in numbers.items():
            self.states[number] = self.ends.get(job.label, ["COMPLETED"]).pop(0)
            if self.states[number] == "unseen":
                self.states[number] = "FAILED"
            elif self.states[number] in ("COMPLETED", "FAILED"):
                write(job, {"COMPLETED": "finished", "FAILED": "failed"}[self.states[number]])
        return numbers

    def queued(self, numbers):
        return {number: Queued(self.states.get(number, "gone")) for number in numbers}


def write(job, status):
    job.folder.mkdir(exist_ok=True)
    (job.folder / "result.json").write_text(json.dumps({"status": status}))


@pytest.fixture
def submit(monkeypatch, tmp_path):
    """Submit so many jobs and wait for them: submit(3, b=["NODE_FAIL", "COMPLETED"]).

    Gives the queue and what was said.
    """
    monkeypatch.setattr(slurm, "POLL", 0)
    monkeypatch.setattr(slurm, "SETTLE", 0)

    def run(count, *, largest=1000, earlier=None, states=None, array=None, **ends):
        jobs = [Job((), tmp_path / label, label) for label in "abcdefgh"[:count]]
        queue, said = Queue(ends), []
        queue.states = queue.states if states is None else states
        (tmp_path / "slurm.json").write_text(json.dumps(earlier or {}))
        monkeypatch.setattr(cluster, "largest_array", lambda: largest)
        monkeypatch.setattr(cluster, "queued", queue.queued)
        monkeypatch.setattr(
            SlurmJobs, "array", lambda self, part, at_once: (array or queue.array)(part, at_once=at_once)
        )
        launcher = SimpleNamespace(
            params={"array_parallelism": 10, "max_num_timeout": 2, "submitit_folder": f"{tmp_path}/logs/%j"}
        )
        progress = SimpleNamespace(say=said.append, note="")
        SlurmJobs(launcher, None, folder=tmp_path, stop=tmp_path / ".stop", progress=progress).run(jobs)
        return queue, said

    return run


def test_jobs_are_one_array_and_each_is_told_with_its_number_and_log(submit, tmp_path):
    queue, said = submit(3)
    assert queue.arrays == [(["a", "b", "c"], 10)]
    assert said == [f"SLURM 1_{index}  {label}  log: {tmp_path}/{label}/train.log" for index, label in enumerate("abc")]
    assert json.loads((tmp_path / "slurm.json").read_text()) == {"a": "1_0", "b": "1_1", "c": "1_2"}


def test_more_jobs_than_an_array_may_have_are_several_that_share_the_limit(submit):
    queue, _ = submit(8, largest=3)
    assert sorted(label for labels, _ in queue.arrays for label in labels) == list("abcdefgh")
    assert [len(labels) for labels, _ in queue.arrays] == [3, 3, 2]
    assert [at_once for _, at_once in queue.arrays] == [3, 3, 3]


@pytest.mark.parametrize("state", cluster.TAKEN)
def test_what_the_cluster_took_is_submitted_again(state, submit):
    queue, said = submit(2, b=[state, "COMPLETED"])
    assert [labels for labels, _ in queue.arrays] == [["a", "b"], ["b"]]
    assert f"SLURM 1_1  b  {state}: submitted again" in said


def test_not_for_ever(submit):
    queue, said = submit(1, a=["TIMEOUT"] * 9)
    assert len(queue.arrays) == 3  # once, and max_num_timeout times more
    assert said[-1] == "SLURM 3_0  a  TIMEOUT: missing"


@pytest.mark.parametrize("state", ["CANCELLED", "OUT_OF_MEMORY", "gone"])
@pytest.mark.parametrize("has_log", [True, False])
def test_what_ended_by_itself_or_by_a_person_is_not(state, has_log, submit, tmp_path):
    log = tmp_path / "logs" / "1_0" / "1_0_0_log.err"
    if has_log:
        log.parent.mkdir(parents=True)
        log.touch()
    queue, said = submit(2, a=[state])
    assert len(queue.arrays) == 1
    assert f"SLURM 1_0  a  {state}: missing{f'; see {log}' if has_log else ''}" in said


def test_a_job_that_fails_is_not_repeated_and_one_without_a_trace_may_not_see_the_folder(submit):
    queue, said = submit(2, a=["FAILED"], b=["unseen"])
    assert len(queue.arrays) == 1
    told = [line for line in said if "FAILED" in line]  # how the first ended its own record says
    assert told == ["SLURM 1_1  b  FAILED: missing; its node has written nothing: does it see this folder?"]


def test_jobs_of_an_earlier_command_that_are_in_the_queue_are_not_submitted(submit, tmp_path):
    class Running(dict):
        """A job that runs when it is asked for first, and has finished then."""

        def get(self, number, default):
            if number != "7_0" or self.pop("asked", None):
                return super().get(number, default)
            self["asked"] = True
            write(Job((), tmp_path / "a", "a"), "finished")
            return "RUNNING"

    queue, said = submit(2, earlier={"a": "7_0", "b": "7_1"}, states=Running({"7_0": "COMPLETED", "7_1": "FAILED"}))
    assert [labels for labels, _ in queue.arrays] == [["b"]]
    assert said[0] == "SLURM 7_0  a  of an earlier command"


def test_a_refusal_is_one_line(submit):
    def refuse(part, at_once):
        raise RuntimeError("x\nsbatch: error: Batch job submission failed: Invalid partition name specified\n")

    with pytest.raises(ConfigError, match="SLURM refuses these jobs: Invalid partition name specified; see hydra"):
        submit(2, array=refuse)


def test_without_sbatch_a_sweep_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch here"):
        check_slurm()


def test_what_sbatch_says_in_other_words_is_its_first_line():
    assert refusal(RuntimeError("slurm is down:\nmore")) == "slurm is down"
