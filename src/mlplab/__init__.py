"""MLP Lab: what batching and regularization do to the training of multi-layer perceptrons.

The README's "How it is built" says what its rooms are; tests/test_layers.py, in which order they import each other.
"""

import importlib
import os
from typing import Any

# Before torch is loaded, which reads it then: threads that wait for each other sleep. By default they spin, and where
# other processes need the cores, training takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
HOMES = {"train": "mlplab.report.launch", "sweep": "mlplab.sweeps.launch", "load_run": "mlplab.runs.evaluate"}
"""What is for notebooks, and where it is; imported only when used: `import mlplab` itself must not import torch."""
__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(importlib.import_module(HOMES[name]), name)
    raise AttributeError(f"module 'mlplab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(HOMES)
