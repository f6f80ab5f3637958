"""Scripts are files of their own: loaded by their path, as Python does when it runs them."""

import runpy
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from mlplab.config.check import CONF


@pytest.fixture(scope="module")
def load() -> Callable[[str], SimpleNamespace]:
    """What a script defines: load("gallery")."""

    def by_path(name: str) -> SimpleNamespace:
        return SimpleNamespace(**runpy.run_path(str(CONF.parent / "scripts" / f"{name}.py")))

    return by_path
