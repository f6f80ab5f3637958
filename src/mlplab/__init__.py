"""MLP Lab: what batching and regularization do to the training of multi-layer perceptrons."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_run"]


def __getattr__(name: str) -> Any:
    """`mlplab.load_run`, imported only when used: `import mlplab` itself must not cost seconds of importing torch."""
    if name == "load_run":
        from mlplab.evaluation import load_run

        return load_run
    raise AttributeError(f"module 'mlplab' has no attribute {name!r}")
