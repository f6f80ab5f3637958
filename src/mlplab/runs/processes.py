"""Several processes for one run: each repeats the job, and leaves no trace for the next."""

import os
import sys
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict, read_write


def prepare_child_processes() -> None:
    """Let the processes that Lightning starts repeat this job, also where it is one of a multirun.

    Lightning starts them with this process's arguments, which in a multirun are those of the whole sweep.
    """
    if HydraConfig.initialized():
        hydra_config: Any = HydraConfig.get()
        with read_write(hydra_config), open_dict(hydra_config):
            hydra_config.run.dir = hydra_config.runtime.output_dir
        sys.argv[1:] = [*hydra_config.overrides.task, "hydra.mode=RUN"]


def end_child_processes(environment: dict[str, str]) -> None:
    """Leave the process group, and restore the environment, so that the next job of a multirun can form its own."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)
