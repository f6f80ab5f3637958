"""Runs the trials of a search until the study has as many as it shall have, and says what was found."""

import functools
import signal

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from mlplab import signals
from mlplab.errors import RunFailed
from mlplab.signals import Stopped
from mlplab.tuning.search import Search, short_text
from mlplab.tuning.study import ERROR, best_trial, finished_trials, open_study


def tune(search: Search) -> None:
    """Run trials until `n_trials` of the study are finished, those of earlier calls and other processes included.

    Then prints the best command, and writes trials.csv and report.html. Raises ConfigError before anything is written,
    RunFailed when no trial was completed, Stopped when a signal ends it: its trial is repeated by the next call.
    """
    study = open_study(search)
    with signals.caught():
        try:
            run_trials(study, search)
        except (Stopped, KeyboardInterrupt) as stop:
            number = getattr(stop, "signal", getattr(stop.__cause__, "signal", signal.SIGINT))
            done = len(finished_trials(study))
            raise Stopped(number, at=f" with {done} of {search.n_trials} trials; the same command goes on") from stop


def run_trials(study: optuna.Study, search: Search) -> None:
    """The same, without regard to signals."""
    # Imported where nothing can be wrong with the study any more: torch and the plots take seconds.
    from mlplab.tuning.report import show_outcome, write_report
    from mlplab.tuning.trials import score

    say(f"study {search.name}: {len(finished_trials(study))} of {search.n_trials} trials, in {search.folder}")
    objective, show = functools.partial(score, search=search), functools.partial(show_trial, search=search)
    while len(finished_trials(study)) < search.n_trials:
        study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[show])
    write_report(study, search)
    show_outcome(study, search)
    if best_trial(study) is None:
        failed = [trial for trial in finished_trials(study) if ERROR in trial.user_attrs]
        reason = f"; the last: {failed[-1].user_attrs[ERROR]}" if failed else ""
        raise RunFailed(f"no trial of {search.name} was completed{reason}")


def show_trial(study: optuna.Study, trial: FrozenTrial, *, search: Search) -> None:
    """One line about a trial that has ended."""
    outcome = {
        TrialState.COMPLETE: f"{search.monitor} {trial.value or 0.0:.4f}",
        TrialState.PRUNED: f"pruned after {len(trial.intermediate_values)} validations",
        TrialState.FAIL: f"failed: {trial.user_attrs.get(ERROR)}",
    }[trial.state]
    best = best_trial(study)
    so_far = f"best {best.value:.4f}  " if best else ""
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    settings = " ".join(f"{key}={short_text(value)}" for key, value in trial.params.items())
    say(f"trial {trial.number}  {outcome}  {so_far}{seconds:.1f} s  {settings}")


def say(line: str) -> None:
    Console().print(line, markup=False, highlight=False, soft_wrap=True)
