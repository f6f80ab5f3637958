"""A CSV file as a data set: numbers as they are, a column for each of several texts, and one column of labels."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mlplab.config.check import memory
from mlplab.data.image_folder import MAX_NAMED
from mlplab.data.sources import Source, warn_if_coarse
from mlplab.errors import ConfigError, did_you_mean, first_line

MISSING = {"", "?", "-", ".", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none"}
"""What programs write, in small letters, for a value that is not known."""
MOST_TEXTS = 50
"""Different texts in a column of features."""
FEWEST = 3
"""Rows of each class: one in each split."""
LARGE, BYTES_FOR_ONE = 100_000_000, 10
"""From this size of a file on, the memory that reading takes is said before: so many bytes for each of the file."""

log = logging.getLogger(__name__)


def table(*, path: str, label: str | int, columns: Sequence[str] | None = None) -> Source:
    """Read a CSV file with a header: classes from the column `label`, features from `columns` (null: all others).

    Cells are separated by commas, semicolons or tabs. A column of numbers is a feature; of texts each one becomes a
    feature of 0 and 1, named `<column>=<text>`. Labels may be texts or numbers; they are the names of the classes.
    Raises ConfigError for a file that cannot be read, unknown columns, and values that are missing or of no use.
    """
    cells, key = read_table(Path(path).expanduser(), key="data.path"), str(label)
    chosen = [name for name in cells if name != key] if columns is None else list(map(str, columns))
    faults = [
        f"{option}: {path} has no column {name!r}{did_you_mean(name, cells)}; it has: {', '.join(cells)}"
        for option, name in (("data.label", key), *(("data.columns", name) for name in chosen))
        if name not in cells
    ]
    if key in chosen:
        faults.append(f"data.columns: {key!r} is the label; leave it out")
    if not chosen:
        faults.append(f"data.columns: {path} has no column beside the label {key!r}")
    if faults:
        raise ConfigError(*faults)
    check_complete(cells[[*chosen, key]], key="data.path")
    names = feature_names(cells[chosen])
    labels, classes = numbered(cells[key], path=path)
    return Source(features_of(cells, names, key="data.path"), labels, classes, names)


def read_table(path: Path, *, key: str) -> pd.DataFrame:
    """The cells of a CSV file as text, under the names of its header; the index counts the lines of the file.

    Raises ConfigError that names `key`.
    """
    cells = read_cells(path, key=key)
    header = list(cells.iloc[0]) if len(cells) else []
    if len(cells) < 2 or "" in header or len(set(header)) < len(header):
        raise ConfigError(f"{key}={path} must have a header of different names, and rows below it; got {header}")
    if pd.to_numeric(pd.Series(header), errors="coerce").notna().all():
        raise ConfigError(f"{key}={path} must begin with the names of the columns, got the numbers {header}")
    return cells.iloc[1:].set_axis(header, axis=1)


def read_cells(path: Path, *, key: str) -> pd.DataFrame:
    """All cells of a CSV file as text, its lines and columns counted from 1, without lines that have no value.

    Commas, semicolons or tabs separate them: what the first line has most of. Where commas do not, a decimal comma is
    a point in the result. Raises ConfigError that names `key`, also where the file is too large for this machine.
    """
    if not path.is_file():
        there = (other.name for other in path.parent.glob("*") if other.is_file())
        raise ConfigError(f"{key}={path}: no such file{did_you_mean(path.name, there)}")
    needed, has = BYTES_FOR_ONE * path.stat().st_size, memory()
    said = f"{key}={path}: reading it takes about {needed / 2**30:.1f} GB of memory"
    if needed > has:
        raise ConfigError(f"{said}, and this machine has {has / 2**30:.1f} GB; choose fewer rows")
    if path.stat().st_size > LARGE:
        log.info(said)
    try:
        with path.open(encoding="utf-8-sig") as file:  # -sig: spreadsheets put a mark before the text
            separator = max(",;\t", key=file.readline().count)
        cells = pd.read_csv(path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                            skip_blank_lines=False, skipinitialspace=True, index_col=False)  # fmt: skip
    except (ValueError, OSError) as error:  # pandas' own errors and those of decoding are ValueErrors
        raise ConfigError(f"{key}={path} cannot be read as CSV in UTF-8 ({first_line(error)})") from error
    cells = cells.apply(lambda column: column.fillna("").str.strip())
    cells = cells.set_axis(cells.index + 1, axis=0).set_axis(cells.columns + 1, axis=1)
    empty = (cells == "").all(axis=1)
    if gaps := list(cells.index[empty & ~empty[::-1].cummin()]):  # spreadsheets leave such lines at the end
        log.warning("%s: %d lines without a value are left out, the first is line %d", path, len(gaps), gaps[0])
    if separator != ",":  # decimal points for decimal commas
        cells = cells.replace(r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$", r"\1.\2", regex=True)
    return cells[~empty]


def check_complete(cells: pd.DataFrame, *, key: str) -> None:
    """Raise ConfigError that names the first cells without a value."""
    advice = "fill it in, or choose other columns with data.columns=[…]" if key == "data.path" else "fill it in"
    missing = cells.apply(lambda column: column.str.lower().isin(MISSING))
    refuse(cells, missing, "has no value", f"; {advice}", key=key)


def check_numbers(cells: pd.DataFrame, *, key: str) -> None:
    """Raise ConfigError that names the first cells that are no finite numbers."""
    refuse(cells, cells.apply(as_numbers).isna(), "must be a finite number", key=key)


def refuse(cells: pd.DataFrame, wrong: pd.DataFrame, rule: str, advice: str = "", *, key: str) -> None:
    """Raise ConfigError that names the first of the cells that are wrong, if any is."""
    places, names = np.argwhere(wrong.to_numpy()), list(cells)
    faults = [
        f"{key}: line {cells.index[row]}, column {names[column]!r} {rule}, got {cells.iat[row, column]!r}{advice}"
        for row, column in places[:MAX_NAMED]
    ]
    if len(places) > MAX_NAMED:
        faults.append(f"{key}: … and {len(places) - MAX_NAMED} more such cells")
    if faults:
        raise ConfigError(*faults)


def feature_names(cells: pd.DataFrame) -> tuple[str, ...]:
    """A name for each column of numbers, `<column>=<text>` for each text of the others, in alphabetical order."""
    names: list[str] = []
    for column in cells:
        texts = cells[column][as_numbers(cells[column]).isna()]
        if texts.empty:
            names.append(column)
        elif len(texts) <= len(cells) / 2:  # a column of numbers, with something else in it
            check_numbers(cells[[column]], key="data.path")
        elif cells[column].str.fullmatch(r"[+-]?\d[\d.,]*\s?%?").all():
            raise ConfigError(
                f"data.path: column {column!r}: {texts.iloc[0]!r} is read as a word; write 1.5 and no unit, separate "
                "columns by semicolons where numbers have commas, or choose the others with data.columns=[…]"
            )
        elif (count := cells[column].nunique()) > min(MOST_TEXTS, len(cells) / 2):
            raise ConfigError(
                f"data.columns: {column!r} has {count:,} different texts in {len(cells):,} rows, of no use as a "
                f"feature; choose the others with data.columns=[…]"
            )
        else:
            names += [f"{column}={text}" for text in sorted(cells[column].unique())]
    return tuple(names)


def features_of(cells: pd.DataFrame, names: Sequence[str], *, key: str) -> Tensor:
    """The features float32 (n, len(names)) of a table, in the order of the names.

    Raises ConfigError for columns that it lacks, missing values, and texts that are not among the names.
    """
    columns = dict.fromkeys(name if name in cells else name.partition("=")[0] for name in names)
    if lacking := [column for column in columns if column not in cells]:
        raise ConfigError(f"{key}: no column {', '.join(lacking)}; there are: {', '.join(map(str, cells))}")
    numbers = [name for name in names if name in cells]
    check_complete(cells[numbers], key=key)
    check_numbers(cells[numbers], key=key)
    features = {name: as_numbers(cells[name]) for name in numbers}
    for name in numbers if key == "data.path" else ():
        warn_if_coarse(name, features[name].min(), features[name].max())
    for column in dict.fromkeys(name.partition("=")[0] for name in names if name not in cells):
        known = [name.partition("=")[2] for name in names if name.startswith(f"{column}=")]
        unknown = cells[column][~cells[column].isin(known)]
        if len(unknown):
            raise ConfigError(
                f"{key}: line {unknown.index[0]}, column {column!r}: {unknown.iloc[0]!r} is none of the texts of "
                f"training: {', '.join(known)}"
            )
        features |= {f"{column}={text}": cells[column] == text for text in known}
    return torch.from_numpy(np.stack([features[name].to_numpy(np.float32) for name in names], axis=1))


def as_numbers(column: pd.Series) -> pd.Series:
    """The numbers that a column's texts are, NaN for what is none or not finite."""
    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    return numbers.where(numbers.abs() <= np.finfo(np.float32).max)


def numbered(column: pd.Series, *, path: str) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers (n,) and the names of the classes: numbers in their order, else texts in alphabetical order."""
    values, numbers = column, as_numbers(column)
    if numbers.notna().all():
        values = numbers.map(lambda value: f"{value:.0f}" if value.is_integer() else f"{value:.15g}")  # 1.0 is 1
    counts = values.value_counts()
    classes = sorted(counts.index, key=float if values is not column else str)
    if len(classes) < 2:
        raise ConfigError(f"data.label: {path} has one class only, {column.name}={classes[0]}; two or more are needed")
    if len(classes) > max(2, len(values) / 2):
        raise ConfigError(
            f"data.label: {column.name!r} has {len(classes):,} different values in {len(values):,} rows; "
            "labels are classes that repeat, not measurements"
        )
    if rare := [f"{name} ({counts[name]})" for name in classes if counts[name] < FEWEST]:
        more = f" … and {len(rare) - MAX_NAMED} more" if len(rare) > MAX_NAMED else ""
        raise ConfigError(
            f"data.label: each class of {column.name!r} needs {FEWEST} rows or more, one for each split; "
            f"fewer have {', '.join(rare[:MAX_NAMED])}{more}"
        )
    order = {name: number for number, name in enumerate(classes)}
    return torch.from_numpy(values.map(order).to_numpy(np.int64, copy=True)), tuple(classes)
