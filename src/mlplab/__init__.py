"""MLP Lab: what batching and regularization do to the training of multi-layer perceptrons.

The house has these rooms, in this order; each imports only from those before it:

    errors files           one line for each fault; files that are whole or not there
    cluster signals        what SLURM and torchrun say; stopping in good order
    config                 what may be set, what is wrong with it, what may be built from it; never imports torch
    figures                tensors and rows of numbers → matplotlib figures
    data                   sources → splits → loader, augment → module, the LightningDataModule
    models                 networks, losses, schedules, updates → classifier, the LightningModule
    callbacks              what watches a run, and last.ckpt
    runs                   build: config → plain objects, once; train, resume, evaluate, predict; the run folder
    report                 many run folders → frames → tables, plots, answer → one page
    sweeps                 grids of runs
    tuning                 searches with Optuna
    cli                    commands, messages, exit codes
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
