"""Which settings tell the runs apart, found by comparing their resolved configs; seeds and folds are no settings."""

from collections.abc import Sequence
from typing import Any

from mlplab.report.runs import Run

REPEATED = ("seed", "split_seed", "fold")
"""Last parts of the keys whose values make a repetition, over which the report takes means."""
NOT_COMPARED = (
    "folder", "sweep", "study", "test", "resume", "logger", "hydra", "checkpoint", "figures",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "callbacks.checkpoint", "callbacks.figures",
    "callbacks.gradient_noise", "callbacks.history", "callbacks.last_checkpoint", "callbacks.layers",
    "callbacks.network_summary", "callbacks.progress_bar", "callbacks.tensorboard", "callbacks.update_monitor",
)  # fmt: skip
"""Keys and sections that say where a run is written and what is shown of it, not how it is trained."""
DEFAULT, ABSENT = "(default)", "–"
MEASURED = {"data.batch_size": ("batch_size",), "data.train_size": ("samples", "train")}
"""Keys that may hold a word, such as "full" → where result.json has the number that came of it."""


def is_repeated(key: str) -> bool:
    """Whether a key's values are repetitions of the same experiment."""
    return key.rpartition(".")[2] in REPEATED


def is_compared(key: str) -> bool:
    """Whether runs that differ in this key are different experiments."""
    return not is_repeated(key) and not any(key == name or key.startswith((f"{name}.", f"{name}/"))
                                            for name in NOT_COMPARED)  # fmt: skip


def compared(run: Run) -> dict[str, Any]:
    """The config without what is not compared; the run's own folder in a path is cut, since it always differs."""
    own = str(run.config.get("folder", run.folder))
    return {
        key: value.replace(own, ".") if isinstance(value, str) else value
        for key, value in run.config.items()
        if is_compared(key)
    }


def differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all configs, in the order of the configs."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({shown(config.get(key, ABSENT)) for config in configs}) > 1]


def settings(runs: Sequence[Run], *, first: Sequence[str] = ()) -> dict[str, list[Any]]:
    """The fewest settings that tell all the different experiments apart: key → its value in each run.

    Preferred are the keys named `first`, then those that were typed (also a choice such as `batching=full_batch`, which
    is no key of the config, where it goes with a difference in the config), then others of the config.
    """
    configs = [compared(run) for run in runs]
    keys = differing(configs)
    columns = {key: [config.get(key, ABSENT) for config in configs] for key in keys}
    experiments = [hash(values) for values in partition(list(columns.values()), len(runs))]
    chosen: dict[str, list[Any]] = {}
    typed = dict.fromkeys(key for run in runs for key in run.overrides if is_compared(key))
    for key in dict.fromkeys([*first, *typed, *keys]):
        if key in columns:
            values = columns[key]
        elif key in typed and not any(key in run.config for run in runs):
            values = [run.overrides.get(key, DEFAULT) for run in runs]
        else:
            continue
        now, then = partition(list(chosen.values()), len(runs)), partition([*chosen.values(), values], len(runs))
        splits_an_experiment = len(set(zip(experiments, then, strict=True))) > len(set(experiments))
        if len(set(then)) > len(set(now)) and not splits_an_experiment:
            chosen[key] = values
        if len(set(then)) == len(set(experiments)):
            break
    return chosen


def alongside(runs: Sequence[Run], chosen: Sequence[str]) -> list[str]:
    """Settings that were typed for some runs and differ as well, always together with the `chosen` ones."""
    differ = differing([compared(run) for run in runs])
    return [
        key
        for key in dict.fromkeys(key for run in runs for key in run.overrides)
        if key in differ and key not in chosen
    ]


def partition(columns: Sequence[Sequence[Any]], length: int) -> list[tuple[str, ...]]:
    """For each of `length` runs the values that it has in all columns, to be compared."""
    return [tuple(shown(column[index]) for column in columns) for index in range(length)]


def numbers(key: str, runs: Sequence[Run], values: Sequence[Any]) -> list[float] | None:
    """The values of a setting as numbers, words replaced by what they came to; None where one is not a number."""
    found = []
    for run, value in zip(runs, values, strict=True):
        if key in MEASURED and not is_number(value):
            value = run.result
            for part in MEASURED[key]:
                value = value.get(part) if isinstance(value, dict) else None
        if not is_number(value):
            return None
        found.append(float(value))
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value as one types it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def value_label(key: str, value: Any) -> str:
    """A value as typed; of a class its name alone."""
    text = shown(value)
    return text.rpartition(".")[2] if key.endswith("_target_") else text


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key → its last part where that is clear enough: `optimizer.lr` is `lr`, `model._target_` is `model`."""
    names = {key: key.removesuffix("._target_").rpartition(".")[2] for key in keys}
    return {key: name if list(names.values()).count(name) == 1 else key for key, name in names.items()}
