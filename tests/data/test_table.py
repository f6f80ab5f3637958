"""A CSV file becomes features and classes, or is refused with the line and column that are wrong."""

from pathlib import Path

import pytest
import torch

from mlplab.data.table import features_of, read_table, table
from mlplab.errors import ConfigError

ROWS = ["hours,colour,passed", "1.5,red,yes", "2,blue,no", "3,red,yes", "4,blue,no", "5,red,yes", "6,green,no"]


@pytest.fixture
def write(tmp_path):
    def written(*lines, encoding="utf-8", name="table.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return str(path)

    return written


def test_numbers_texts_and_labels(write):
    source = table(path=write(*ROWS), label="passed")
    assert source.feature_names == ("hours", "colour=blue", "colour=green", "colour=red")
    assert source.class_names == ("no", "yes")
    assert source.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert source.features[:2].tolist() == [[1.5, 0, 0, 1], [2, 1, 0, 0]]
    assert (source.features.dtype, source.labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line,
        lambda line: line.replace(",", ";"),
        lambda line: line.replace(",", ";").replace(".", ","),  # a decimal comma
        lambda line: line.replace(",", "\t").replace(".", ","),
        lambda line: line.replace(",", " , "),
        lambda line: ",".join(f'"{cell}"' for cell in line.split(",")),
        lambda line: f"{line}\n",  # blank lines
    ],
    ids=["commas", "semicolons", "decimal commas", "tabs", "spaces", "quotes", "blank lines"],
)
def test_the_same_table_however_it_is_written(change, encoding, write):
    expected = table(path=write(*ROWS), label="passed")
    found = table(path=write(*map(change, ROWS), encoding=encoding, name="other.csv"), label="passed")
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.labels, expected.labels)
    assert (found.feature_names, found.class_names) == (expected.feature_names, expected.class_names)


def test_columns_are_chosen_in_their_order(write):
    path = write("a,b,c,label", *["1,2,3,x"] * 3, *["4,5,6,y"] * 3)
    source = table(path=path, label="label", columns=["c", "a"])
    assert source.feature_names == ("c", "a")
    assert source.features[0].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "10.0"], ("9", "10")),
        (["0", "1", "1"], ("0", "1")),
        (["b", "a", "b"], ("a", "b")),
        (["4006381333931", "4006381333932", "4006381333931"], ("4006381333931", "4006381333932")),
        (["0.3", "1234567890123456", "1234567890123457"], ("0.3", "1234567890123456", "1234567890123457")),
    ],
)
def test_classes_are_in_the_order_of_their_values(labels, names, write):
    path = write("x,7", *(f"{number},{label}" for number, label in enumerate(labels * 3)))
    source = table(path=path, label=7)  # as the command line reads data.label=7
    assert source.class_names == names
    assert source.class_names[int(source.labels[0])] == str(labels[0])


@pytest.mark.parametrize("cell", ["", "NA", "nan", "null", "?"])
def test_a_missing_value_is_named_by_line_and_column(cell, write):
    for broken, column in ((f"{cell},red,yes", "hours"), (f"1,{cell},yes", "colour"), (f"1,red,{cell}", "passed")):
        with pytest.raises(ConfigError, match=rf"line 4, column '{column}' has no value.*data\.columns"):
            table(path=write(*ROWS[:3], broken, *ROWS[4:]), label="passed")


LABELS = [f"{number},{'abc'[number % 3]}" for number in range(9)]


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (ROWS, {"label": "pased"}, "no column 'pased'; did you mean 'passed'"),
        (ROWS, {"columns": ["hour"]}, "no column 'hour'; did you mean 'hours'"),
        (ROWS, {"columns": ["hours", "passed"]}, "'passed' is the label"),
        (["passed", "yes", "no"], {}, "no column beside the label"),
        (["x,passed", *["1,yes"] * 9], {}, "one class only, passed=yes"),
        (["x,passed", *(f"1,{number / 7}" for number in range(9))], {}, "9 different values in 9 rows"),
        (["x,passed", *["1,a"] * 8, "1,b"], {}, r"3 rows or more, one for each split; fewer have b \(1\)"),
        (["x,passed", *LABELS, "seven,a"], {}, "line 11, column 'x' must be a finite number, got 'seven'"),
        (["x,passed", *LABELS, "inf,a"], {}, "line 11, column 'x' must be a finite number, got 'inf'"),
        (["x,passed", *LABELS, "1e39,a"], {}, "must be a finite number, got '1e39'"),
        (["x,passed", *['"1,5",a', '"2,5",b', '"0,5",a', '"7",b'] * 3], {}, "'x': '1,5' is read as a word; write 1.5"),
        (["x,passed", *["5%,a", "6 %,b"] * 6], {}, "'x': '5%' is read as a word"),
        (["x,passed", *(f"name {line}" for line in LABELS)], {}, "'x' has 9 different texts in 9 rows"),
        (["1,2", *["3,4"] * 9], {}, r"must begin with the names of the columns, got the numbers \['1', '2'\]"),
        (["x,x,passed", *["1,2,a"] * 9], {}, "header of different names"),
        (["x,passed"], {}, "rows below it"),
        ([""], {}, "cannot be read as CSV"),
        (["x,passed", "1,a,extra"], {}, "cannot be read as CSV"),
    ],
)
def test_what_is_of_no_use_is_refused_in_words(lines, options, said, write):
    with pytest.raises(ConfigError, match=said):
        table(path=write(*lines), **{"label": "passed", **options})


def test_times_and_long_numbers_are_named_since_float32_rounds_them(write, caplog):
    table(
        path=write("time,x,y", *(f"{1700000000 + 1000 * number},{number},{'ab'[number % 2]}" for number in range(20))),
        label="y",
    )
    assert [message.split(",")[0] for message in caplog.messages] == ["data: time"]


def test_a_file_that_is_none_is_refused(tmp_path, write):
    with pytest.raises(ConfigError, match=r"data\.path=.*: no such file"):
        table(path=str(tmp_path / "none.csv"), label="a")
    write(*ROWS, name="grades.csv")
    with pytest.raises(ConfigError, match=r"data\.path=.*grade\.csv: no such file; did you mean 'grades\.csv'"):
        table(path=str(tmp_path / "grade.csv"), label="a")
    with pytest.raises(ConfigError, match="cannot be read as CSV in UTF-8"):
        table(path=write("größe,a", "1,ü", encoding="latin-1"), label="a")


def test_new_rows_become_the_features_of_training_by_name(write):
    names = ("hours", "colour=blue", "colour=green", "colour=red")
    cells = read_table(Path(write("colour,extra,hours", "red,9,1.5", "blue,9,2")), key="input")
    assert features_of(cells, names, key="input").tolist() == [[1.5, 0, 0, 1], [2, 1, 0, 0]]
    with pytest.raises(ConfigError, match="input: no column colour; there are: hours"):
        features_of(read_table(Path(write("hours", "1")), key="input"), names, key="input")
    with pytest.raises(ConfigError, match="input: line 2, column 'colour': 'pink' is none of the texts of training"):
        features_of(read_table(Path(write("colour,hours", "pink,1")), key="input"), names, key="input")
