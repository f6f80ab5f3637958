"""The trials of a search, each a training run with the settings that Optuna suggests, until there are enough."""

import contextlib
import io
import math
import signal
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from mlplab import signals
from mlplab.callbacks.guards import Pruning
from mlplab.config.overrides import composed
from mlplab.config.targets import raised
from mlplab.errors import ConfigError, RunFailed, first_line
from mlplab.report.numbers import shown
from mlplab.runs import build
from mlplab.runs import train as training
from mlplab.signals import Stopped
from mlplab.tuning.report import write_report
from mlplab.tuning.search import Search, override_line, value_text
from mlplab.tuning.study import (
    ERROR,
    FOLDER,
    OVERRIDES,
    best_trial,
    finished_trials,
    open_study,
    repeat_killed,
    storage_error,
    where,
)

ONLY_SHOW = ("progress_bar", "network_summary", "figures", "tensorboard", "layers", "gradient_noise", "update_monitor")
"""Callbacks that trials do without: they change no number of a run."""


def tune(search: Search) -> None:
    """Run trials until `n_trials` of the study are finished, those of earlier calls and other processes included.

    Then prints the best command, and writes trials.csv and report.html. Raises ConfigError before anything is written,
    RunFailed when no trial was completed, Stopped when a signal ends it: its trial is repeated by the next call.
    """
    check_data(search)
    study = open_study(search)
    print(
        f"study {search.name}: {len(finished_trials(study))} of {search.n_trials} trials, in {search.folder}",
        flush=True,
    )
    try:
        with signals.caught():
            while len(finished_trials(study)) < search.n_trials:
                repeat_killed(study)
                study.optimize(
                    lambda trial: score(trial, search),
                    n_trials=1,
                    catch=(Exception,),
                    callbacks=[lambda _, trial: show_trial(study, trial, search)],
                )
            write_report(study, search)
    except (Stopped, KeyboardInterrupt) as stop:
        number = getattr(stop, "signal", getattr(stop.__cause__, "signal", signal.SIGINT))
        done = len(finished_trials(study))
        raise Stopped(number, at=f" with {done} of {search.n_trials} trials; the same command goes on") from stop
    except Exception as error:
        if cause := storage_error(error):
            advice = "what was found is kept; once it is back, the same command goes on"
            raise ConfigError(f"{where(search)}: {first_line(cause)}; {advice}") from error
        raise
    if best_trial(study) is None:
        reasons = [f"; the last: {trial.user_attrs[ERROR]}" for trial in study.trials if ERROR in trial.user_attrs]
        raise RunFailed(f"no trial of {search.name} was completed{''.join(reasons[-1:])}")


def check_data(search: Search) -> None:
    """Raise ConfigError for data that cannot be had, which each trial would fail for, and be done with."""
    values = {key: [*domain.get("choices", []), domain.get("low")] for key, domain in search.space.items()}
    lines = [*search.overrides, *(override_line(key, first) for key, (first, *_) in values.items())]
    build.data_module(composed("train", lines))


def score(trial: optuna.Trial, search: Search) -> float:
    """Train as the trial suggests; the best value of the monitored metric. Raises TrialPruned where it gives up.

    A run that fails leaves its reason with the trial. An interrupted one is put back, to be run by the next call.
    """
    chosen = [override_line(key, suggest(trial, key, domain)) for key, domain in search.space.items()]
    overrides, folder = (*search.overrides, *chosen, "test=false"), search.folder / "trials" / str(trial.number)
    trial.set_user_attr(OVERRIDES, overrides[:-1])
    trial.set_user_attr(FOLDER, str(folder))
    pruning = Pruning(trial, monitor=search.monitor)
    try:
        config = composed("train", [*overrides, override_line("folder", str(folder))])
        OmegaConf.update(config, "trainer.enable_progress_bar", False)  # else Lightning shows one of its own
        for name in ONLY_SHOW:
            OmegaConf.update(config, f"callbacks.{name}", None, force_add=True)
        with contextlib.redirect_stdout(io.StringIO()):
            value = training.train(config, overrides=overrides, callbacks=[pruning])[f"best/{search.monitor}"]
        if not math.isfinite(value):
            raise RunFailed(f"the best {search.monitor} is {value}")
    except Exception as error:
        trial.set_user_attr(ERROR, first_line(raised(error)))
        raise
    except BaseException as stop:
        trial.study.enqueue_trial(trial.params)
        raise KeyboardInterrupt from stop  # which Optuna takes for the end of this trial
    if pruning.stop_reason:
        raise optuna.TrialPruned(pruning.stop_reason)
    return value


def suggest(trial: optuna.Trial, key: str, domain: dict[str, Any]) -> Any:
    """The value that the trial has for one key of the space; a list or mapping goes by its text, for Optuna."""
    if "choices" in domain:
        choices = {value_text(one) if isinstance(one, list | dict) else one: one for one in domain["choices"]}
        return choices[trial.suggest_categorical(key, list(choices))]
    are_whole = isinstance(domain["low"], int) and isinstance(domain["high"], int)
    return (trial.suggest_int if are_whole else trial.suggest_float)(key, **domain)


def show_trial(study: optuna.Study, trial: FrozenTrial, search: Search) -> None:
    """One line about a trial that has ended."""
    outcome = {
        TrialState.COMPLETE: f"{search.monitor} {trial.value or 0.0:.4f}",
        TrialState.PRUNED: f"pruned after {len(trial.intermediate_values)} validations",
        TrialState.FAIL: f"failed: {trial.user_attrs.get(ERROR)}",
    }[trial.state]
    best = best_trial(study)
    so_far = f"best {best.value:.4f}  " if best else ""
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    settings = " ".join(f"{key}={shown(value)}" for key, value in trial.params.items())
    print(f"trial {trial.number}  {outcome}  {so_far}{seconds:.1f} s  {settings}", flush=True)
