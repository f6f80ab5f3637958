"""A real SLURM and a real PostgreSQL on this machine, started where they do not run, and ended where they did not."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # `jobs` is imported by its name

from jobs import LONG, SCRIPTS, Program, clean_environment, python, results, sh


def started(script: str, is_running: Callable[[], bool]) -> Iterator[str]:
    """What the script says that starts a server, which is ended afterwards unless it ran before."""
    if os.geteuid() or not Path("/etc/debian_version").exists():
        pytest.skip(f"{script} needs to be root on Debian")
    was_running = is_running()
    yield sh("sh", str(SCRIPTS / script)).strip()
    if not was_running:
        sh("sh", str(SCRIPTS / script), "stop")


@pytest.fixture(scope="session")
def slurm() -> Iterator[str]:
    """SLURM with two nodes and the partitions main, low and high."""
    yield from started(
        "slurm_local.sh", lambda: bool(shutil.which("sinfo")) and not subprocess.run(["sinfo"], check=False).returncode
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL, as storage=… has it."""
    pytest.importorskip("psycopg", reason='needs pip install "psycopg[binary]"')
    pid = Path("/var/lib/postgres-local/data/postmaster.pid")
    for said in started("postgres_local.sh", pid.exists):
        yield said.removeprefix("storage=")


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Program]:
    """Start one of our commands: start("train.py", "seed=1")."""

    def run(script: str, *arguments: str, **environment: str) -> Program:
        output = tmp_path / f"output-{time.monotonic_ns()}.txt"
        options: Any = {"cwd": tmp_path, "env": clean_environment() | environment, "start_new_session": True}
        with output.open("w") as file:
            return Program(
                subprocess.Popen(python(script, *arguments), stdout=file, stderr=subprocess.STDOUT, **options), output
            )

    return run


@pytest.fixture
def sbatch(slurm: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Submit a batch job; gives its number: sbatch(["srun python train.py"], "--partition=low")."""
    numbers = []

    def submit(lines: Sequence[str], *options: str) -> str:
        script = tmp_path / "job.sh"
        script.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        where = (f"--chdir={tmp_path}", f"--output={tmp_path}/slurm-%j.out", "--open-mode=append")
        said = subprocess.run(
            ["sbatch", "--parsable", *where, *options, str(script)],
            env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        numbers.append(said.stdout.strip())
        return numbers[-1]

    yield submit
    for number in numbers:
        sh("scancel", number, code=None)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of LONG's weights, trained without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    sh(*python("train.py", *LONG, f"hydra.run.dir={folder}"))
    return results(folder)["run"]
