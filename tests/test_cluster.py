"""What SLURM and torchrun say of a process, and what SLURM is asked: its commands are played by scripts."""

import signal

import pytest

from mlplab import cluster
from mlplab.cli.launch import folder_of_launch
from mlplab.cluster import Queued
from mlplab.errors import ConfigError


@pytest.fixture(autouse=True)
def play(monkeypatch, tmp_path):
    """Outside SLURM, let one of its commands say something: play("squeue", "12_0|RUNNING|None", code=1).

    Gives the file of its arguments.
    """
    for name in [name for name in cluster.os.environ if name.startswith(("SLURM_", "TORCHELASTIC_", "RANK", "WORLD"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))

    def play(command, said="", *, error="", code=0):
        arguments = tmp_path / f"{command}.txt"
        script = tmp_path / command
        script.write_text(
            f"#!/bin/sh\necho \"$@\" > {arguments}\nprintf '%s' '{said}'\nprintf '%s' '{error}' >&2\nexit {code}\n"
        )
        script.chmod(0o755)
        return arguments

    return play


@pytest.fixture
def within(monkeypatch):
    """Set what SLURM or torchrun sets: within(SLURM_JOB_ID=12)."""
    return lambda **names: [monkeypatch.setenv(name, str(value)) for name, value in names.items()]


NAMES = [
    ({}, None),
    ({"SLURM_JOB_ID": 12, "SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 1}, None),
    ({"SLURM_JOB_ID": 12, "SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": 2}, "slurm_12_0"),
    ({"SLURM_JOB_ID": 14, "SLURM_ARRAY_JOB_ID": 12, "SLURM_ARRAY_TASK_ID": 1, "SLURM_STEP_ID": 0,
      "SLURM_STEP_NUM_TASKS": 2}, "slurm_12_1_0"),
    ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": 2}, "torchrun_a"),
    ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": 1}, None),
    ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": 2}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "name"), NAMES)
def test_processes_that_were_started_together_have_one_name(variables, name, within):
    within(**variables)
    assert cluster.launch_of_several() == name


def test_processes_without_a_name_in_common_must_be_given_a_folder(within):
    within(TORCHELASTIC_RUN_ID="none", WORLD_SIZE=2)
    with pytest.raises(ConfigError, match="torchrun --rdzv-id="):
        folder_of_launch(["seed=1"])
    assert str(folder_of_launch(["seed=1", "hydra.run.dir=a/b"])) == "a/b"


PROCESSES = [
    ({}, 2, ""),
    ({"SLURM_NTASKS": 2, "SLURM_STEP_ID": 0}, 2, ""),
    ({"SLURM_NTASKS": 1}, 1, ""),
    ({"SLURM_NTASKS": 1, "SLURM_JOB_NAME": "bash"}, 2, ""),
    ({"SLURM_NTASKS": 1, "TORCHELASTIC_RUN_ID": "a"}, 2, ""),
    ({"SLURM_NTASKS": 1, "SLURM_STEP_ID": 0}, 2, "are 2 processes, and this SLURM job has 1: set #SBATCH --nodes="),
    ({"SLURM_NTASKS": 2, "SLURM_STEP_ID": 0}, 1, "hydra.launcher.nodes and .tasks_per_node"),
    ({"SLURM_NTASKS": 2}, 2, "only by srun"),
]


@pytest.mark.parametrize(("variables", "wanted", "refusal"), PROCESSES)
def test_as_many_processes_as_slurm_has_started(variables, wanted, refusal, within):
    within(**variables)
    if not refusal:
        cluster.check_processes(wanted)
        return
    with pytest.raises(ConfigError) as error:
        cluster.check_processes(wanted)
    assert refusal in str(error.value)


@pytest.mark.parametrize(
    ("number", "variables", "job", "starts_again"),
    [
        (signal.SIGUSR1, {"SLURM_JOB_ID": 12}, "", True),
        (signal.SIGTERM, {"SLURM_JOB_ID": 12}, "PreemptTime=2026-11-26T15:16:20", True),
        (signal.SIGTERM, {"SLURM_JOB_ID": 12}, "PreemptTime=None", False),  # a person's scancel
        (signal.SIGINT, {"SLURM_JOB_ID": 12}, "PreemptTime=2026-11-26T15:16:20", False),
        (signal.SIGUSR1, {"SLURM_JOB_ID": 12, "SLURM_PROCID": 1}, "", False),  # the first process asks for all
        (signal.SIGUSR1, {}, "", False),
    ],
)
def test_a_job_is_started_again_where_the_cluster_takes_its_machine(number, variables, job, starts_again, play, within):
    within(**variables)
    asked = play("scontrol", job)
    said = cluster.requeue(number)
    assert said == ("SLURM starts job 12 again" if starts_again else None)
    assert (asked.exists() and asked.read_text() == "requeue 12\n") == starts_again


def test_a_refused_requeue_is_told(play, within):
    within(SLURM_JOB_ID=12)
    play("scontrol", error="Requested operation is presently disabled", code=1)
    assert cluster.requeue(signal.SIGUSR1) == (
        "SLURM does not start this job again: Requested operation is presently disabled"
    )


def test_the_queue_knows_jobs_or_has_forgotten_them(play):
    asked = play("squeue", "12_0|RUNNING|None\n12_1|PENDING|Resources\n12_2|NODE_FAIL|None")
    queue = cluster.queued(["12_0", "12_1", "12_2", "13_0"])
    assert queue == {
        "12_0": Queued("RUNNING", "None"), "12_1": Queued("PENDING", "Resources"),
        "12_2": Queued("NODE_FAIL", "None"), "13_0": Queued("gone"),
    }  # fmt: skip
    assert [job.ended for job in queue.values()] == [False, False, True, True]
    assert "--jobs=12,13" in asked.read_text()
    play("squeue", error="slurm_load_jobs error: Invalid job id specified", code=1)
    assert cluster.queued(["12_0"]) == {"12_0": Queued("gone")}


@pytest.mark.parametrize("is_there", [True, False])
def test_a_queue_that_does_not_answer_says_nothing_of_jobs(is_there, play):
    if is_there:
        play("squeue", error="Unable to contact slurm controller", code=1)
    assert cluster.queued(["12_0"]) is None


def test_how_large_an_array_may_be(play):
    assert cluster.largest_array() == 1000
    play("scontrol", "MaxArraySize            = 2001")
    assert cluster.largest_array() == 2001
