"""The Optuna study of a search: opened or continued, shared by processes, its trials told apart."""

import contextlib
import os
import re
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from mlplab.config.targets import resolved
from mlplab.errors import ConfigError, first_line
from mlplab.runs.record import RESULT, is_in_use
from mlplab.tuning.search import Search

HEARTBEAT, GRACE = 10, 60
"""Seconds between the signs of life of a trial, and after how many without one its process counts as killed."""
WAIT = 60
"""Seconds that a process waits for another that writes to the same SQLite file, or for a database that is away."""
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
    raise ConfigError(f"{where(search)}: the study cannot be opened: {reason}")


def where(search: Search) -> str:
    """Where the study is kept, without the password."""
    hidden = re.sub(r"(?<=:)[^:/@]+(?=@)", "***", search.storage or "")
    return f"storage={hidden}" if search.storage else str(search.folder)


def storage_error(error: BaseException | None) -> BaseException | None:
    """What the storage has failed with, if that is why there is an error."""
    while error and not isinstance(error, SQLAlchemyError | StorageInternalError | OSError):
        error = error.__cause__ or error.__context__
    return error and (error.__cause__ or error)


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
        return JournalStorage(WholeJournal(search.storage))
    if search.storage is None:
        search.folder.mkdir(parents=True, exist_ok=True)
    storage = RDBStorage(
        search.storage or f"sqlite:///{search.folder / 'study.db'}?timeout={WAIT}",
        engine_kwargs={"pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )
    event.listen(storage.engine, "do_connect", connect_patiently)
    return storage


class WholeJournal(JournalFileBackend):
    """A journal file that can be read again after a full disk, or a crash, has left a line of it in parts."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lock.acquire()
        try:
            content = Path(self._file_path).read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(self._file_path, content.rfind(b"\n") + 1)
        finally:
            self._lock.release()
        super().append_logs(logs)


def connect_patiently(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
    """A connection to a database that may be starting again, which is waited for."""
    for _ in range(WAIT):
        with contextlib.suppress(dialect.loaded_dbapi.OperationalError):
            return dialect.connect(*arguments, **options)
        time.sleep(1)
    return None  # SQLAlchemy's own way, which says what is wrong


def repeat_killed(study: optuna.Study) -> None:
    """Put back trials whose process was killed, as far as their run folders are here.

    Databases know of the others by the signs of life that they note, which journal files do not.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        result = Path(trial.user_attrs.get(FOLDER, ""), RESULT)
        if result.exists() and time.time() - result.stat().st_mtime > GRACE and not is_in_use(result.parent):
            with contextlib.suppress(ValueError, UpdateFinishedTrialError):  # another process was first
                study.tell(trial.number, state=TrialState.FAIL)
                study.enqueue_trial(trial.params)


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
