"""What all tests share: a fixed random state, and one thread, so that they do not fight over the cores."""

import copy
import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mlplab.config.check import CONF

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_random_state() -> None:
    torch.manual_seed(0)


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mixed precision be computed as such on a processor that is slow with it, too."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.fixture
def bomb() -> Callable[[Path], Any]:
    """What creates a file when it is unpickled: bomb(path)."""

    class Bomb:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __reduce__(self) -> tuple:
            return Path.touch, (self.path,)

    return Bomb


# Commands


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """The config of a command, as Hydra composes it: composed("eval", "run=last")."""

    def config(name: str, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, list(overrides))

    return config


@pytest.fixture
def as_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a command that is called in this process: an empty folder, and logging, which Hydra sets up, as before."""
    root = logging.getLogger()
    handlers, level, threads = root.handlers[:], root.level, torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    yield
    root.handlers[:], root.level = handlers, level
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """A script as a process in a session of its own, so that what it leaves can be ended: start("train.py", "seed=1").

    It runs in `folder`, and stderr goes where stdout goes, if no other place is given.
    """
    foreign = ("PL_", "HYDRA_", "MLPLAB_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def popen(
        name: str, *arguments: str, folder: Path, stderr: int = subprocess.STDOUT, **more: str
    ) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(CONF.parent / name), *arguments],
            cwd=folder, env=clean | more, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True,
        )  # fmt: skip

    return popen


# Whole runs, for the tests of the upper layers


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., DictConfig]:
    """A composed config of a tiny job, written to tmp_path / folder: make_config("optimizer.lr=0.5", folder="a")."""

    def make(*overrides: str, folder: str = "run") -> DictConfig:
        return tiny_config(tmp_path / folder, overrides)

    return make


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., "Launched"]:
    """Run a tiny job (80 points, 2 epochs, CPU), checkpoints and history only: launch("seed=1", folder="a")."""

    def run(*overrides: str, folder: str = "run", **options: Any) -> Launched:
        return run_job(tmp_path / folder, (*BARE, *overrides), **options)

    return run


@pytest.fixture
def launch_full(tmp_path: Path) -> Callable[..., "Launched"]:
    """The same with all default callbacks but figures (which an override can ask for), loggers, and the test."""

    def run(*overrides: str, folder: str = "run") -> Launched:
        return run_job(tmp_path / folder, overrides)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "Launched":
    """One finished default job (56 training points in batches of 16, 4 epochs), to look at; never write into it."""
    watching = ("figures=default", "callbacks.update_monitor.every_n_updates=1")
    overrides = ("data.batch_size=16", "trainer.max_epochs=4", *watching)
    return run_job(tmp_path_factory.mktemp("finished") / "run", overrides)


TINY = ("data.num_samples=80", "trainer=cpu", "trainer.max_epochs=2")
BARE = (
    "callbacks=none", "logger=none", "test=false",
    "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false",
)  # fmt: skip


class Launched(NamedTuple):
    """What one call of `train` left: on disk, and in memory."""

    folder: Path
    config: DictConfig
    metrics: dict[str, float]
    classifier: Any
    trainer: Any

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Of the network, as training left it (with `test=true`: of the best checkpoint)."""
        return self.classifier.network.state_dict()


def tiny_config(folder: Path, overrides: Sequence[str]) -> DictConfig:
    """As Hydra composes it; plain values are set afterwards, so that a composition is used more than once."""
    chosen, plain = [], []
    for override in overrides:
        key = override.partition("=")[0]
        is_plain = key[0] not in "+~" and not (CONF / key).is_dir()
        (plain if is_plain else chosen).append(override)
    other_data = any(override.startswith("data=") for override in chosen)
    tiny = [override for override in TINY if not (other_data and override.startswith("data."))]
    tiny += [] if any("figures" in override for override in overrides) else ["figures=none"]  # they take seconds
    config = copy.deepcopy(composition((*tiny, *chosen)))
    config.merge_with_dotlist([*plain, f"folder={folder}"])
    return config


@functools.cache
def composition(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def run_job(folder: Path, chosen: Sequence[str], **options: Any) -> Launched:
    """Compose and train (with `options`) in this process, as train.py does, and keep the classifier and the Trainer."""
    from lightning.pytorch import Callback

    from mlplab.runs.train import train

    config, kept = tiny_config(folder, chosen), {}

    class Keep(Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            kept.update(classifier=pl_module, trainer=trainer)

    metrics = train(config, callbacks=[Keep()], **options)
    return Launched(folder, config, metrics, **kept)


@pytest.fixture(scope="session")
def launch_in() -> Callable[[Path, Sequence[str]], "Launched"]:
    """Run a tiny job in a folder of one's own, for runs that several tests look at."""
    return run_job


@pytest.fixture(scope="session")
def scalars() -> Callable[..., dict[str, list[tuple[int, float]]]]:
    """Read a run folder's event files (of a folder within): metric → [(step, value), …] by step, nothing left out.

    TensorBoard reads files in the order of their names, where the tenth of a process and second comes before the ninth.
    """

    def read(folder: Path, within: str = "") -> dict[str, list[tuple[int, float]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "tensorboard" / within), size_guidance={"scalars": 0}).Reload()
        return {tag: sorted((event.step, event.value) for event in events.Scalars(tag))
                for tag in events.Tags()["scalars"]}  # fmt: skip

    return read


@pytest.fixture(scope="session")
def same_weights() -> Callable[[Any, Any], bool]:
    """Whether two state dicts are equal to the last bit."""

    def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
        return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    return equal
