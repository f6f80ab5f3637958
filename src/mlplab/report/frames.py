"""Run folders as two frames, a row for each run and a row for each validation, and the groups that the runs form."""

import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mlplab.config import keys
from mlplab.config.keys import flat, kind_of
from mlplab.errors import ConfigError, first_line, noted
from mlplab.report.numbers import Interval, mean_interval, number, shown, texts_of
from mlplab.runs.record import CONFIG, RESULT, Record

MAX_BYTES = 50_000_000
"""Of a file: a folder from a stranger may hold anything."""
MOST_BY_CHANCE, LEAST_LEARNED = 0.05, 0.25
"""Of the way from always naming the most frequent class to being always right."""


def read(folders: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """All runs at or below the folders, each once, in the order of their names; their histories; and what is left out.

    The columns of the runs have two levels: "about" (where a run is, how it ended, its flat config, what it was made
    with) and "metrics" (numbers). The histories are the rows of all history.csv, with the number of their run in the
    column `run`. There is one line for each folder and file that cannot be used.
    Raises ConfigError with these lines where no run can be read.
    """
    found, skipped = find(folders)
    runs = []
    for folder in found:
        with noted(skipped):
            runs.append(read_run(folder, skipped))
    if not runs:
        raise ConfigError(*(skipped or ["run: none given; name runs, or folders that hold some"]))
    frames = {level: pd.DataFrame([run[level] for run in runs]) for level in ("about", "metrics")}
    histories = [run["history"].assign(run=index) for index, run in enumerate(runs)]
    return pd.concat(frames, axis=1), pd.concat(histories, ignore_index=True), skipped


def find(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The run folders at or below the folders, each once, of a sweep those of its jobs; a line for each without any."""
    found: dict[Path, Path] = {}
    skipped = []
    for folder in folders:
        below = []
        for path, subfolders, files in os.walk(folder):
            jobs = read_sweep(Path(path)).get("jobs") or sorted(subfolders)
            subfolders[:] = [name for name in jobs if name in subfolders and RESULT not in files]  # none within a run
            below += [Path(path)] * (RESULT in files)
        found |= {path.resolve(): path for path in below if path.resolve() not in found}
        if not below:
            why = f"no run in it (a run folder holds a {RESULT})" if folder.is_dir() else "no such folder"
            skipped.append(f"{folder}: {why}")
    return list(found.values()), skipped


def read_run(folder: Path, skipped: list[str]) -> dict[str, Any]:
    """What one run folder holds, by the parts of the frames. Raises ConfigError where it cannot be used."""
    record, config, history = Record.read(folder), {}, pd.DataFrame()
    result, status = record.values, str(record.values.get("status", "unknown"))
    if status != "failed" or (folder / CONFIG).exists():  # a job may fail before it has a config
        read_text(folder / CONFIG)
        config = record.plain_config()
    try:
        history = read_history(folder / "history.csv")
    except ConfigError as error:
        skipped.append(f"{error}; the run is counted, its curves are left out")
    own = str(config.get("folder", folder))
    values = {str(key): as_typed(value, own) for key, value in flat(config | {"study": {}}).items() if value != {}}
    typed = [str(line).partition("=") for line in listed(result.get("overrides"))]
    # A test curve's last value is not what the test of the best checkpoint gives.
    known = history.filter(regex="^(?!test/).*/|^(lr|seconds)$").dropna(axis=1, how="all")
    about = {
        "folder": folder, "status": status, "finished": status == "finished", "result": result, "config": values,
        "study": part(config, "study"), "typed": {key.lstrip("+~"): value for key, _, value in typed},
        "repetition": str({key: value for key, value in values.items() if is_repeated(key)} or folder),
    }  # fmt: skip
    metrics = {
        **{name: number(value) for name, value in result.items()},
        "data.batch_size": number(result.get("batch_size")),  # what words in the config came to
        "data.train_size": number(part(result, "samples").get("train")),
        **{name: float(column.dropna().iloc[-1]) for name, column in known.items()},
        **{str(name): number(value) for name, value in part(result, "metrics").items()},
    }
    about["collapsed"] = status == "finished" and is_collapsed(metrics)
    return {"about": about, "metrics": metrics, "history": history}


def is_collapsed(metrics: dict[str, float]) -> bool:
    """Whether a run ended about where one is that always names the most frequent class, which has `majority_share`.

    Validation speaks too: dropout, augmentation and early epochs lower the training accuracy of a run that learns.
    """

    def skill(metric: str) -> float:
        return (metrics.get(metric, math.nan) - chance) / (1 - chance)  # 0 by chance, 1 when all are right

    chance = metrics.get("majority_share", 1.0)
    training = "fitted/acc" if "fitted/acc" in metrics else "train/acc"
    return chance < 1 and skill(training) < MOST_BY_CHANCE and not skill("val/acc") > LEAST_LEARNED


def read_history(path: Path) -> pd.DataFrame:
    """The rows of history.csv as numbers, by updates; none where there is no file. Raises ConfigError when damaged."""
    if not path.exists():
        return pd.DataFrame()
    try:
        rows = pd.read_csv(io.StringIO(read_text(path)))
    except (ValueError, RecursionError) as error:  # pandas' parser errors are ValueErrors
        raise ConfigError(f"{path} cannot be read: {first_line(error)}") from error
    texts = rows.select_dtypes(exclude="number")
    rows = rows.assign(**texts.apply(pd.to_numeric, errors="coerce")).replace([np.inf, -np.inf], np.nan)
    if "updates" not in rows or not len(rows) or rows["updates"].isna().any():
        raise ConfigError(f"{path} cannot be read: it does not hold a row of numbers for each validation")
    return rows.sort_values("updates", ignore_index=True)


def read_sweep(folder: Path) -> dict[str, Any]:
    """What sweep.json says of a sweep, its jobs and its study; nothing where there is none that can be read."""
    try:
        sweep = json.loads(read_text(folder / "sweep.json"))
    except (ConfigError, ValueError, RecursionError):
        return {}
    if not isinstance(sweep, dict):
        return {}
    return sweep | {"jobs": listed(sweep.get("jobs")), "study": part(sweep, "study")}


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError for what is no file, or none of a sensible size, or no text."""
    if not path.is_file():
        raise ConfigError(f"{path} is missing")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} cannot be read: it is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {first_line(error)}") from error


def part(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a file, empty where there is none."""
    return values[name] if isinstance(values.get(name), dict) else {}


def listed(value: Any) -> list[Any]:
    """A value that may be given alone or as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def as_typed(value: Any, folder: str) -> Any:
    """A value of a config: a list as one types it, and paths without the run's own folder, which always differs."""
    value = shown(value) if isinstance(value, list | dict) else value
    return value.replace(folder, ".") if isinstance(value, str) else value


# Settings


def is_repeated(key: str) -> bool:
    """Whether a key's values are repetitions of the same experiment, over which the report takes means."""
    return key.rpartition(".")[2] in ("seed", "split_seed", "fold")


def compared(keys: Iterable[str]) -> list[str]:
    """Those of the keys whose values make other experiments."""
    return [key for key in keys if not is_repeated(key) and kind_of(key) != "shown"]


def comparable(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs but those that failed before they had a config, which say nothing of settings, unless all did."""
    has_config = runs["about"]["config"].map(bool)
    return runs[has_config] if has_config.any() else runs


def differing(runs: pd.DataFrame) -> list[str]:
    """The settings in which the configs of the runs differ."""
    return compared(keys.differing(list(runs["about"]["config"])))


def typed_keys(runs: pd.DataFrame) -> list[str]:
    """The settings that were typed for any run, in turn."""
    return compared(dict.fromkeys(key for typed in runs["about"]["typed"] for key in typed))


def settings(runs: pd.DataFrame, *, first: Sequence[str] = ()) -> pd.DataFrame:
    """The fewest settings that tell all the different experiments apart, a column of text each.

    Preferred are the keys named `first`, then the data set, then others that were typed (also a choice such as
    `batching=full_batch`, which is no key of the config, where it goes with a difference in the config), then those of
    the config.
    """
    configs, differ, typed = runs["about"]["config"], differing(runs), typed_keys(runs)
    values = {key: texts_of([config.get(key, "–") for config in configs]) for key in differ}
    for key in [key for key in typed if not any(key in config for config in configs)]:
        values[key] = [pairs.get(key, "(default)") for pairs in runs["about"]["typed"]]

    def number_told(names: Sequence[str]) -> int:
        return len(set(zip(*(values[name] for name in names), strict=True))) or 1

    chosen: list[str] = []
    for key in dict.fromkeys([*first, "data", *typed, *differ]):
        if key in values and number_told([*chosen, key]) > number_told(chosen):
            splits_an_experiment = number_told([*differ, key]) > number_told(differ)
            chosen += [] if splits_an_experiment else [key]
    return pd.DataFrame({key: values[key] for key in chosen}, index=runs.index)


def common_overrides(runs: pd.DataFrame, chosen: Sequence[str]) -> list[str]:
    """What was typed alike for all runs."""
    common = set.intersection(*(set(typed.items()) for typed in runs["about"]["typed"]))
    return sorted(f"{key}={value}" for key, value in common if not is_repeated(key) and key not in chosen)


def as_numbers(runs: pd.DataFrame, key: str) -> pd.Series:
    """A setting of each run, or else what was measured under its name, as numbers; NaN for what is none."""
    found = runs["about"]["config"].map(lambda config: number(config.get(key))).astype(float)
    return found.fillna(runs["metrics"].get(key, found))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key → its last part where that is clear enough: `optimizer.lr` is `lr`, `model._target_` is `model`."""
    names = {key: key.removesuffix("._target_").rpartition(".")[2] for key in keys}
    return {key: name if list(names.values()).count(name) == 1 else key for key, name in names.items()}


# Groups


class Group(NamedTuple):
    """Runs that differ in their repetition only."""

    label: str  # `batch_size=8, lr=0.1`; the value alone where there is one setting
    name: str  # as it reads in a sentence: `batch_size=8`
    settings: dict[str, str]  # the values as text, of a class its name alone
    places: dict[str, Any]  # what puts the values of each setting in order: numbers where they are so in all groups
    members: pd.DataFrame  # all of them
    runs: pd.DataFrame  # the finished ones, each repetition once: the same seed twice is no second sample
    history: pd.DataFrame  # of these

    def has_number(self, key: str) -> bool:
        return isinstance(self.places.get(key), float)

    def values(self, metric: str) -> list[float]:
        """The metric of each run that has it and where it is finite."""
        return [float(value) for value in self.runs.get(("metrics", metric), ()) if np.isfinite(value)]

    def interval(self, metric: str) -> Interval:
        return mean_interval(self.values(metric), metric)

    def lines(self, clock: str, metric: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Clock and metric at the validations that have both, of each run that has such a one."""
        rows = self.history.reindex(columns=["run", clock, metric]).dropna().to_numpy(float)
        lines = np.split(rows, np.flatnonzero(np.diff(rows[:, 0])) + 1)
        return [(line[:, 1], line[:, 2]) for line in lines if len(line)]


def grouped(runs: pd.DataFrame, history: pd.DataFrame, *, first: Sequence[str] = ()) -> list[Group]:
    """The comparable runs by their settings, in order of the values of these."""
    runs = comparable(runs)
    texts = settings(runs, first=first)
    for key in [key for key in texts if key.endswith("_target_")]:
        short = texts[key].str.rpartition(".")[2]
        texts[key] = short if short.nunique() == texts[key].nunique() else texts[key]
    names = short_names(list(texts))
    places = {key: places_of(texts[key], as_numbers(runs, key)) for key in texts}
    groups = []
    for _, members in runs.groupby([texts[key] for key in texts] or (lambda _: True), sort=False):
        finished = members[members["about"]["finished"]]
        counted = finished[~finished["about"]["repetition"].duplicated(keep="last")]
        values = dict(texts.loc[members.index[0]])
        name = ", ".join(f"{names[key]}={text}" for key, text in values.items()) or "all runs"
        label = "".join(values.values()) if len(values) == 1 else name
        in_order = {key: found[members.index[0]] for key, found in places.items()}
        lines = history[history["run"].isin(counted.index)]
        groups.append(Group(label, name, values, in_order, members, counted, lines))
    return sorted(groups, key=lambda group: list(group.places.values()))


def places_of(texts: pd.Series, numbers: pd.Series) -> dict[Any, Any]:
    """What puts values in order: numbers and lists of them by size, then words as they appear, and null at the end."""
    if numbers.notna().all():
        return numbers.to_dict()
    appeared = list(dict.fromkeys(texts))

    def place(text: str) -> tuple[int, list[float]]:
        try:
            return 0, [float(part) for part in text.strip("[]").split(",") if part]
        except ValueError:
            return (2, []) if text == "null" else (1, [appeared.index(text)])

    return texts.map(place).to_dict()
