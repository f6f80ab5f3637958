"""One run on two nodes: one folder, the numbers of one process to rounding, and resumed after whatever stops it."""

import os
import shlex
import signal
import subprocess

import pytest
from jobs import (
    BARE,
    Program,
    clean_environment,
    fail_node,
    hurry,
    python,
    results,
    saved,
    sh,
    state,
    wait_for,
    was_started_again,
)

pytestmark = pytest.mark.cluster

NODES = ("--nodes=2", "--ntasks-per-node=1")
ONE = (*BARE, "data.batch_size=8", "trainer.max_epochs=20", "steps_per_execution=1", "checkpoint.max_share=1")
TWO = (*ONE, "trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, slurm):
    """The folder of the same run by one process."""
    folder = tmp_path_factory.mktemp("alone")
    sh(*python("train.py", *ONE, "trainer=cpu", f"hydra.run.dir={folder}/run"))
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory, slurm):
    """The digest of the run by two processes without an interruption."""
    folder = tmp_path_factory.mktemp("together")
    sh("srun", *NODES, "--chdir", str(folder), *python("train.py", *TWO))
    ((name, digest),) = results(folder).items()
    assert name.startswith("slurm_")
    return folder, digest


def test_two_nodes_make_one_run_with_the_numbers_of_one_process(alone, together):
    (one,), (two,) = (results(folder, "metrics").values() for folder in (alone, together[0]))
    assert two == pytest.approx(one, rel=1e-4)
    assert len(list(together[0].rglob("result.json"))) == 1


@pytest.mark.parametrize("how", ["requeue", "node_down"])
def test_two_nodes_go_on_after(how, sbatch, together, tmp_path):
    job = sbatch([f"srun {shlex.join(python('train.py', *TWO))}"], *NODES)
    wait_for(lambda: saved(tmp_path))
    if how == "requeue":
        sh("scancel", "--signal=USR1", job)
    else:
        fail_node(job)
    wait_for(lambda: was_started_again(job))
    hurry(job)
    wait_for(lambda: state(job) == "COMPLETED")
    (digest,) = results(tmp_path).values()
    print(f"\ntwo nodes, {how}: {digest[:16]}, without an interruption: {together[1][:16]}")
    assert digest == together[1]


def torchrun(folder, *arguments):
    """A process for each of two nodes, as torchrun starts them; gives the two."""
    rendezvous = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-id=job1", "--rdzv-backend=c10d",
                  "--rdzv-endpoint=127.0.0.1:29517")  # fmt: skip
    script, *rest = python("train.py", *arguments)[1:]
    command = [python("x")[0], "-m", "torch.distributed.run", *rendezvous, script, *rest]
    programs = []
    for node in range(2):
        output = folder / f"node{node}.txt"
        with output.open("a") as file:
            process = subprocess.Popen(
                command, cwd=folder, env=clean_environment(), stdout=file, stderr=file, start_new_session=True
            )
        programs.append(Program(process, output))
    return programs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_torchrun_on_two_nodes_is_resumed_after(number, together, tmp_path):
    programs = torchrun(tmp_path, *TWO)
    wait_for(lambda: saved(tmp_path))
    if number == signal.SIGTERM:
        programs[0].process.terminate()
    else:
        os.killpg(programs[1].process.pid, number)  # the agent of a node
        for pid in sh("pgrep", "-s", str(programs[1].process.pid), code=None).split():
            os.kill(int(pid), number)
        sh("pkill", "-KILL", "-P", str(programs[1].process.pid), code=None)
    for program in programs:
        program.process.wait(timeout=400)
    assert "finished" not in results(tmp_path, "status").values()
    for program in torchrun(tmp_path, "resume=outputs/train/torchrun_job1"):
        program.end()
    (digest,) = results(tmp_path).values()
    print(f"\ntorchrun, {number.name}: {digest[:16]}, without an interruption: {together[1][:16]}")
    assert digest == together[1]


WRONG = {
    ("--nodes=1", "--ntasks=1"): (("trainer=ddp_cpu",), "are 2 processes, and this SLURM job has 1"),
    ("--nodes=1", "--ntasks-per-node=2"): (("trainer=cpu",), "are 1 processes, and this SLURM job has 2"),
}


@pytest.mark.parametrize(("options", "case"), WRONG.items())
def test_another_number_of_processes_than_slurm_has_is_refused(options, case, slurm, tmp_path):
    arguments, said = case
    out = sh("srun", *options, "--chdir", str(tmp_path), *python("train.py", *BARE, *arguments), code=2)
    assert said in out
    assert not list(tmp_path.rglob("result.json"))
