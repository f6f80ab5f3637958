"""Other ways for a run to end: SLURM, a second Ctrl-C, no memory, no finite numbers, files that are gone."""

import functools
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import child
import pytest
import torch
from comparing import differences
from PIL import Image

from mlplab.files import read_checkpoint
from mlplab.runs.record import Record

BARE = ("callbacks=none", "logger=none", "test=false", "trainer.enable_progress_bar=false")
SHORT = ("data.batch_size=5", "steps_per_execution=1", "checkpoint.max_share=1", *BARE)
COMMAND = ("data.num_samples=80", "trainer=cpu", "trainer.max_epochs=3", *SHORT)


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """The environment of a batch job, and a scontrol that notes what it was asked."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked.txt\n')
    scontrol.chmod(0o755)
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    return {f"SLURM_{name}": value for name, value in job.items()} | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}


@pytest.mark.faults
@pytest.mark.parametrize("warning", ["SIGUSR1", "SIGUSR2"])
def test_a_job_that_slurm_starts_again_goes_on_by_itself(warning, slurm, run, tmp_path, tally):
    for name in ("whole", "requeued"):
        (tmp_path / name).mkdir()
    run(child.run_command, list(COMMAND), cwd=tmp_path / "whole")
    there = {"cwd": tmp_path / "requeued", "environment": slurm}
    code = 128 + signal.Signals[warning]
    run(child.run_command, list(COMMAND), fault=child.Interrupted(warning, 13), code=code, **there)
    assert (tmp_path / "asked.txt").read_text() == "requeue 4711\n"
    there["environment"] = slurm | {"SLURM_RESTART_COUNT": "1"}
    run(child.run_command, list(COMMAND), **there)
    (whole,), (requeued,) = ((tmp_path / name / "outputs" / "train").iterdir() for name in ("whole", "requeued"))
    assert [line for line in differences(whole, requeued) if "slurm_job" not in line] == []
    tally("jobs that SLURM started again and that went on by themselves")


@pytest.mark.faults
def test_a_second_ctrl_c_stops_at_once(train, run, tmp_path, tally):
    train(*SHORT, folder="whole")
    train(*SHORT, fault=child.Interrupted("SIGINT", 17, times=2), code=130)
    assert Record.read(tmp_path / "run").values["status"] == "stopped"
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 12
    run(child.resume, tmp_path / "run")
    assert not differences(tmp_path / "whole", tmp_path / "run")
    tally("second Ctrl-C that stopped at once")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("model.hidden_sizes=[20000,20000]",), "model.hidden_sizes"),
        (("data.num_samples=200000", "data.batch_size=100000", "model.hidden_sizes=[2000,2000]"), "data.batch_size"),
        (("data.num_samples=200000", "data.train_size=99", "data.eval_batch_size=60000", "model.hidden_sizes=[3000,8]"),
         "data.eval_batch_size"),
    ],
)  # fmt: skip
def test_without_memory_it_says_what_to_lower(overrides, key, train, tally):
    ended = train(*SHORT, *overrides, fault=child.little_memory, code=2 if key == "model.hidden_sizes" else 1)
    assert "out of memory" in ended.error
    assert key in ended.error
    tally("runs without memory that said what to lower")


@pytest.mark.faults
def test_numbers_that_are_not_finite_end_the_run_and_never_a_checkpoint(train, tmp_path, tally):
    momentum = ("optimizer=momentum", "optimizer.lr=1e12", "checkpoint.every_n_updates=1")
    ended = train("data.batch_size=5", "callbacks.figures=null", "checkpoint.max_share=1", *momentum, code=1)
    assert "diverged: " in ended.error
    assert "update " in ended.error
    assert Record.read(tmp_path / "run").values["status"] == "diverged"
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        assert all(values.isfinite().all() for values in read_checkpoint(path)["state_dict"].values())
    tally("diverged runs that named the update and kept finite checkpoints")


@pytest.mark.faults
@pytest.mark.parametrize("missing", [100, None])
def test_a_log_that_lacks_what_was_written_is_said(missing, train, run, tmp_path, tally):
    logged = ("data.batch_size=5", "callbacks.figures=null", "checkpoint.max_share=1")
    train(*logged, fault=child.Interrupted("SIGTERM", 14), code=143)
    (events,) = (tmp_path / "run" / "tensorboard").glob("events*")
    if missing is None:
        events.unlink()
    else:
        os.truncate(events, events.stat().st_size - missing)
    ended = run(child.resume, tmp_path / "run")
    said = f"lacks {missing} bytes" if missing else "lacks "
    assert re.search(f"{said}.*had been written: its curves have a gap", ended.output)
    tally("damaged event files said")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Forty small pictures in two classes."""
    generator = torch.Generator().manual_seed(0)
    for number in range(40):
        path = tmp_path / "pictures" / "train" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (4, 4, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(path)
    return tmp_path / "pictures"


@pytest.mark.faults
def test_a_run_does_not_go_on_with_other_data(pictures, train, run, tmp_path, tally):
    train(*SHORT, "data=image_folder", f"data.root={pictures}", fault=child.Interrupted("SIGTERM", 7), code=143)
    before = (tmp_path / "run" / "result.json").read_bytes()
    gone = pictures / "train" / "a" / "04.png"
    content = gone.read_bytes()
    gone.unlink()
    ended = run(child.resume, tmp_path / "run", code=2)
    assert "data" in ended.error
    assert (tmp_path / "run" / "result.json").read_bytes() == before
    shutil.move(pictures, tmp_path / "elsewhere")
    ended = run(child.resume, tmp_path / "run", code=2)
    assert str(pictures) in ended.output
    shutil.move(tmp_path / "elsewhere", pictures)
    gone.write_bytes(content)
    run(child.resume, tmp_path / "run")
    tally("vanished data files said", 2)


@pytest.mark.faults
def test_a_folder_that_cannot_be_written_is_said(run, tmp_path, tally):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "run", Path("/proc/nowhere")):
        ended = run(child.run_command, [*COMMAND, f"hydra.run.dir={place}"], code=2)
        assert str(place.parent) in ended.error
        tally("folders that could not be written, exit 2")


@pytest.mark.faults
@pytest.mark.parametrize("moment", range(3))
def test_two_processes_that_share_batches_go_on_exactly(moment, start, tmp_path, tally):
    """The real command, which Lightning starts a second time; SIGTERM reaches the first process only."""
    launch = functools.partial(start, "train.py", folder=tmp_path)
    arguments = ["data.num_samples=400", "trainer=ddp_cpu", "trainer.max_epochs=30", "model=mlp_dropout", *SHORT]

    def wait(process: subprocess.Popen, code: int) -> None:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == code, output

    wait(launch(*arguments, "hydra.run.dir=whole"), 0)
    broken = launch(*arguments, "hydra.run.dir=broken")
    deadline = time.monotonic() + 400
    while not (tmp_path / "broken" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.15 * moment)
    broken.send_signal(signal.SIGTERM)
    wait(broken, 143)
    tally("interruptions of two processes that share batches")
    wait(launch("resume=broken"), 0)
    assert not differences(tmp_path / "whole", tmp_path / "broken")
