"""Scripts are files of their own: loaded by their path, as Python does when it runs them."""

import importlib.util
from collections.abc import Callable
from types import ModuleType

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mlplab.config.check import CONF


@pytest.fixture(scope="module")
def load() -> Callable[[str], ModuleType]:
    """A script as a module: load("gallery")."""

    def by_path(name: str) -> ModuleType:
        path = CONF.parent / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return by_path


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """The config of a command: composed("inspect_data", "data=digits")."""

    def config(name: str, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, list(overrides))

    return config
