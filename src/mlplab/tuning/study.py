"""The Optuna study of a search: opened or continued, shared by processes, its trials told apart."""

import time
import warnings
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mlplab.config.targets import resolved
from mlplab.errors import ConfigError, first_line
from mlplab.tuning.search import Search

HEARTBEAT, GRACE = 10, 60
"""Seconds between the signs of life of a trial, and after how many without one its process counts as killed."""
WAIT = 60
"""Seconds that a process waits for another that writes to the same SQLite file."""
ATTEMPTS = 6
SEARCH, ERROR, OVERRIDES, FOLDER = "search", "error", "overrides", "folder"
"""What the study and its trials are noted with."""


def open_study(search: Search) -> optuna.Study:
    """The study of that name, new or continued. Raises ConfigError where it is one of another search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    pruner = make_pruner(search)
    for _ in range(ATTEMPTS):  # since another process may be creating it at the same moment, an error in databases
        try:
            study = optuna.create_study(
                study_name=search.name,
                storage=open_storage(search),
                direction="maximize" if search.mode == "max" else "minimize",
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(constant_liar=True),  # constant_liar: away from running trials
                pruner=pruner,
            )
            check_same_search(study, search)
            return study
        except (SQLAlchemyError, StorageInternalError, ImportError, OSError) as error:
            reason = first_line(error.__cause__ or error)
            time.sleep(0.3)
    where = f"storage={search.storage}" if search.storage else search.folder
    raise ConfigError(f"{where}: the study cannot be opened: {reason}")


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """What decides which trials are given up early. Raises ConfigError where it is none, or refuses its options."""
    options = resolved(search.pruner, "pruner")
    try:
        return options.pop("_target_")(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"pruner: {first_line(error)}") from error


def open_storage(search: Search) -> BaseStorage:
    """SQLite in the study's folder, the database of an address, or a journal file."""
    if search.storage and "://" not in search.storage:
        Path(search.storage).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(search.storage))
    if search.storage is None:
        search.folder.mkdir(parents=True, exist_ok=True)
    return RDBStorage(
        search.storage or f"sqlite:///{search.folder / 'study.db'}?timeout={WAIT}",
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )


def check_same_search(study: optuna.Study, search: Search) -> None:
    """Note in the study what it searches; raise ConfigError where that differs from an earlier call."""
    ours = {"space": search.space, "overrides": sorted(search.overrides), "monitor": [search.monitor, search.mode]}
    theirs = study.user_attrs.get(SEARCH)
    if theirs is None:
        study.set_user_attr(SEARCH, ours)
    elif theirs != ours:
        changed = ", ".join(part for part in ours if theirs.get(part) != ours[part])
        raise ConfigError(
            f"name={search.name}: there is a study of that name with other settings ({changed}); "
            "choose another name=…, or remove it"
        )


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Those that came to an end of their own: complete, pruned, or failed; not what was interrupted or killed."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in trials if trial.state != TrialState.FAIL or ERROR in trial.user_attrs]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the best score, the earliest of equal ones; None without any."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = min if study.direction == optuna.study.StudyDirection.MINIMIZE else max
    return best(complete, key=lambda trial: float(trial.value or 0.0), default=None)
