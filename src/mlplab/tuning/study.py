"""The Optuna study of a search: opened or continued, shared by processes, its trials told apart."""

import inspect
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from mlplab.errors import ConfigError, did_you_mean, first_line
from mlplab.tuning.search import Search

HEARTBEAT, GRACE = 10, 60
"""Seconds between the signs of life of a trial, and after how many without one its process counts as killed."""
WAIT = 60
"""Seconds that a process waits for another that writes to the same SQLite file."""
SEARCH, ERROR, OVERRIDES, FOLDER = "search", "error", "overrides", "folder"
"""What the study and its trials are noted with."""


def open_study(search: Search) -> optuna.Study:
    """The study of that name, new or continued. Raises ConfigError where it is one of another search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    pruner = make_pruner(search.pruner)
    try:
        study = first_of_several(
            lambda: optuna.create_study(
                study_name=search.name,
                storage=open_storage(search),
                direction="maximize" if search.mode == "max" else "minimize",
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(constant_liar=True),  # constant_liar: away from running trials
                pruner=pruner,
            )
        )
        check_same_search(study, search)
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        where = "storage" if search.storage else search.folder
        advice = "; pip install 'psycopg[binary]' for PostgreSQL" if isinstance(error, ImportError) else ""
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{where}: the study cannot be opened: {reason}{advice}") from error
    return study


def first_of_several(create: Callable[[], optuna.Study]) -> optuna.Study:
    """Create what another process may be creating at the same moment, which databases answer with an error."""
    for _ in range(5):
        try:
            return create()
        except (SQLAlchemyError, StorageInternalError):
            time.sleep(0.5)
    return create()


def open_storage(search: Search) -> BaseStorage:
    """SQLite in the study's folder, the database of an address, or a journal file."""
    if search.storage and "://" not in search.storage:
        Path(search.storage).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(search.storage))
    if search.storage is None:
        search.folder.mkdir(parents=True, exist_ok=True)
    url = search.storage or f"sqlite:///{search.folder / 'study.db'}"
    return RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": WAIT}} if url.startswith("sqlite") else None,
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )


def make_pruner(options: dict[str, Any]) -> optuna.pruners.BasePruner:
    """The class `name` of optuna.pruners with the other options. Raises ConfigError for what it does not take."""
    kinds = {name: kind for name, kind in vars(optuna.pruners).items() if name.endswith("Pruner")}
    name, given = options["name"], {key: value for key, value in options.items() if key != "name"}
    if name not in kinds:
        raise ConfigError(f"pruner.name={name}: not in optuna.pruners{did_you_mean(name, kinds)}")
    names = [parameter for parameter in inspect.signature(kinds[name]).parameters if parameter != "wrapped_pruner"]
    if unknown := [key for key in given if key not in names]:
        raise ConfigError(*(f"pruner.{key}: {name} has no such option; it has: {', '.join(names)}" for key in unknown))
    try:
        return kinds[name](**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"pruner: {first_line(error)}") from error


def check_same_search(study: optuna.Study, search: Search) -> None:
    """Note in the study what it searches; raise ConfigError where that differs from an earlier call."""
    ours = {
        "space": search.space,
        "overrides": sorted(search.overrides),
        "monitor": [search.monitor, search.mode],
    }
    ours = json.loads(json.dumps(ours))
    theirs = study.user_attrs.get(SEARCH)
    if theirs is None:
        study.set_user_attr(SEARCH, ours)
    elif theirs != ours:
        changed = ", ".join(part for part in ours if theirs.get(part) != ours[part])
        raise ConfigError(
            f"name={search.name}: there is a study of that name with other settings ({changed}); "
            "choose another name=…, or remove it"
        )


# Trials


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Those that came to an end of their own: complete, pruned, or failed; not what was interrupted or killed."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in trials if trial.state != TrialState.FAIL or ERROR in trial.user_attrs]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the best score, the earliest of equal ones; None without any."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(complete, key=lambda trial: (sign * float(trial.value or 0.0), trial.number), default=None)
