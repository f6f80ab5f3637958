"""Launches in child processes, and the report of `make test-faults`: how many faults of each kind were survived."""

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf

sys.path.append(str(Path(__file__).parent))  # `child` is imported by its name, in the children too

import child


class Ended(NamedTuple):
    """How a launch ended: the exit code (minus the signal's number if one killed it), and all it printed."""

    code: int
    output: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        (line,) = [line for line in self.output.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.output, self.output
        return line


@pytest.fixture(scope="session")
def processes() -> Any:
    """multiprocessing with a fork server that has imported all that training needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(child.PRELOADED)
    return context


@pytest.fixture
def begin(processes: Any, tmp_path: Path) -> Callable[..., Callable[[], Ended]]:
    """Start a launch in a child process; gives a function that waits for its end: begin(child.resume, folder)()."""

    def start(
        launch: Callable, *arguments: Any, cwd: Path = tmp_path, environment: dict[str, str] | None = None,
        fault: child.Fault | None = None,
    ) -> Callable[[], Ended]:  # fmt: skip
        output = tmp_path / f"output-{time.monotonic_ns()}.txt"
        options = {"output": output, "cwd": cwd, "environment": environment or {}, "fault": fault}
        process = processes.Process(target=child.main, args=(launch, *arguments), kwargs=options)
        process.start()

        def wait() -> Ended:
            process.join(timeout=120)
            if process.exitcode is None:
                process.kill()
                process.join()
                pytest.fail(f"no end within two minutes:\n{output.read_text()}")
            return Ended(process.exitcode, output.read_text() if output.exists() else "")

        wait.process = process  # type: ignore[attr-defined]
        return wait

    return start


@pytest.fixture
def run(begin: Callable) -> Callable[..., Ended]:
    """The same, and wait for its end, which must be with an exit code, if not None: run(child.resume, folder, code=1).

    `story` is told where it ends otherwise.
    """

    def to_its_end(*arguments: Any, code: int | None = 0, story: str = "", **options: Any) -> Ended:
        ended = begin(*arguments, **options)()
        assert code in (None, ended.code), f"{story}\n{ended.output}"
        return ended

    return to_its_end


@pytest.fixture
def train(make_config: Callable, run: Callable) -> Callable[..., Ended]:
    """The same for the training of a tiny job: train("seed=1", folder="a", fault=…, code=143)."""

    def train(*overrides: str, folder: str = "run", **options: Any) -> Ended:
        return run(child.train, OmegaConf.to_yaml(make_config(*overrides, folder=folder)), **options)

    return train


# The report

SAID_ELSEWHERE = {
    "damaged_files": "flipped bits and truncations noticed in data archives and caches",
    "hostile_files": "hostile checkpoints, configs, URLs, records and inputs: no code run",
    "bad_inputs": "bad inputs written by hand: exit 2, a line each, nothing written",
    "generated_inputs": "bad and good inputs generated from the config's own keys",
    "generated_inputs_refused": "of these refused",
}


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Count for the report: tally("interruptions survived", 3)."""
    return lambda what, number=1: record_property(what, number)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.option.markexpr.startswith("faults"):
        return
    reports = [report for some in terminalreporter.stats.values() for report in some if hasattr(report, "duration")]
    counts, seconds = Counter[tuple[str, str]](), sum(report.duration for report in reports)
    for report in reports:
        if report.when == "teardown":  # it has the counts of the whole test
            for name, number in report.user_properties:
                counts[report.location[0], SAID_ELSEWHERE.get(name, name)] += number
    terminalreporter.section("faults survived, damage noticed", sep="=")
    for (_, what), number in sorted(counts.items()):
        terminalreporter.write_line(f"{number:6,}  {what}")
    failed = sum(report.failed for report in reports)
    tests = len({report.nodeid for report in reports})
    terminalreporter.write_line(f"{failed:6,}  of {tests} tests failed; {seconds / 60:.0f} minutes of tests")
