"""One trial of a search: a training run with the settings that the trial suggests, and its score."""

import contextlib
import io
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from mlplab.callbacks.guards import Pruning
from mlplab.errors import ConfigError, RunFailed
from mlplab.runs.train import train
from mlplab.tuning.search import Search, choice_name, composing, override_line
from mlplab.tuning.study import ERROR, FOLDER, OVERRIDES

ONLY_SHOW = ("progress_bar", "network_summary", "figures", "tensorboard", "layers", "gradient_noise", "update_monitor")
"""Callbacks that trials do without: they change no number of a run."""


def score(trial: optuna.Trial, *, search: Search) -> float:
    """Train as the trial suggests; the best value of the monitored metric. Raises TrialPruned where it gives up.

    A run that fails leaves its reason with the trial. An interrupted one is put back, to be run by the next call.
    """
    chosen = [override_line(key, suggest(trial, key, domain)) for key, domain in search.space.items()]
    folder = search.folder / "trials" / str(trial.number)
    trial.set_user_attr(OVERRIDES, [*search.overrides, *chosen])
    trial.set_user_attr(FOLDER, str(folder))
    pruning = Pruning(trial, monitor=search.monitor)
    try:
        with composed_run([*search.overrides, *chosen], folder) as config, contextlib.redirect_stdout(io.StringIO()):
            value = train(config, callbacks=[pruning])[f"best/{search.monitor}"]
        if not math.isfinite(value):
            raise RunFailed(f"the best {search.monitor} is {value}")
    except Exception as error:
        faults = error.faults if isinstance(error, ConfigError) else str(error).splitlines()[:1]
        trial.set_user_attr(ERROR, "; ".join(faults) or type(error).__name__)
        raise
    except BaseException as stop:
        trial.study.enqueue_trial(trial.params)
        raise KeyboardInterrupt from stop  # which Optuna takes for the end of this trial
    if pruning.stop_reason:
        raise optuna.TrialPruned(pruning.stop_reason)
    return value


def suggest(trial: optuna.Trial, key: str, domain: dict[str, Any]) -> Any:
    """The value that the trial has for one key of the space."""
    if "choices" in domain:
        by_name = {choice_name(choice): choice for choice in domain["choices"]}
        return by_name[trial.suggest_categorical(key, list(by_name))]
    low, high, log = domain["low"], domain["high"], domain.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


@contextlib.contextmanager
def composed_run(overrides: Sequence[str], folder: Path) -> Iterator[DictConfig]:
    """The config of a run, and within the context the state that `train.py` would run it in."""
    with composing():
        config = compose("train", [*overrides, "test=false"], return_hydra_config=True)
    config.hydra.runtime.output_dir = str(folder)
    hydra: Any = HydraConfig.instance()
    state = hydra.cfg, sys.argv
    hydra.set_config(config)
    sys.argv = ["train.py", *config.hydra.overrides.task]
    with open_dict(config):
        del config["hydra"]
        for name in ONLY_SHOW:
            config.callbacks.pop(name, None)
        config.trainer.enable_progress_bar = False  # else Lightning shows one of its own
        config.folder = str(folder)
    try:
        yield config
    finally:
        hydra.cfg, sys.argv = state
