"""What cannot be an input for prediction is refused, with the place of each fault, and never run."""

from pathlib import Path

import numpy as np
import pytest

from mlplab.data.inputs import read_inputs
from mlplab.errors import ConfigError


def refused(path: Path, shape: tuple[int, ...], names: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as error:
        read_inputs(path, feature_shape=shape, feature_names=names)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0.5,0.6,1\n", "expected 2 columns (a, b), separated by commas and without labels, got 3"),
        ("0.5|0.6\n", "expected 2 columns (a, b), separated by commas and without labels, got 1"),
        ("a,b\n1,2\n3\n", "line 3, column 'b' has no value, got ''; fill it in"),
        ("1,2\n1,2,3\n", "cannot be read as CSV in UTF-8 (Error tokenizing data. C error: Expected 2 fields in line 2"),
        ("1,2\n\n3,x\n", "line 3, column 2 must be a finite number, got 'x'"),
        ("a,b\n1,2\n3,x\n", "line 3, column 'b' must be a finite number, got 'x'"),
        ("1,\n", "line 1, column 2 has no value, got ''"),
        ("1e39,1\n", "line 1, column 1 must be a finite number, got '1e39'"),
        ("", "cannot be read as CSV in UTF-8 (No columns to parse from file)"),
        ("a,b\n", "no row of numbers; expected 2 columns"),
        ("NA,NA\n1,2\n", "line 1, column 1 has no value, got 'NA'"),
        ("0,1\n0.5,0.6\n", "line 1: 0,1 may be a sample or the column numbers that pandas writes"),
        (",0,1\n0,0.5,0.6\n", "expected 2 columns (a, b), separated by commas and without labels, got 3; the first"),
        ("A,c\n1,2\n", "the header (A, c) lacks b; it must name each feature once"),
        ("a,b,A\n1,2,3\n", "the header (a, b, A) has a more than once"),
        ("id,b,a\n1,2,3\n4,x,6\n", "line 3, column 'b' must be a finite number, got 'x'"),
    ],
)
def test_faults_in_a_csv_are_located(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(content)
    assert message in refused(path, (2,), ("a", "b"))


def test_many_faulty_cells_are_reported_together_but_not_all(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("1,2\n" + "x,2\n" * 50)
    lines = refused(path, (2,)).splitlines()
    assert len(lines) == 5
    assert "line 2, column 1" in lines[0]
    assert "more such cells" in lines[-1]


def test_lines_without_a_value_are_left_out_and_those_between_others_named(tmp_path: Path, caplog) -> None:
    path = tmp_path / "points.csv"
    for content, said in (("1,2\n3,4\n\n,\n", 0), ("1,2\n,\n\n3,4\n", 1)):
        path.write_text(content)
        assert read_inputs(path, feature_shape=(2,)).features.tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert len(caplog.messages) == said
    assert "2 lines without a value are left out, the first is line 2" in caplog.text


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (np.zeros((3, 5)), (2,), "shape (n, 2) with n ≥ 1, got (3, 5)"),
        (np.zeros(2), (2,), "shape (n, 2) with n ≥ 1, got (2,)"),
        (np.zeros((4, 5)), (1, 4, 5), "(n, 20) or (n, 1, 4, 5) or (n, 4, 5, 1) or (n, 4, 5) with n ≥ 1, got (4, 5)"),
        (np.zeros((2, 4, 5)), (3, 4, 5), "(n, 60) or (n, 3, 4, 5) or (n, 4, 5, 3) with n ≥ 1, got (2, 4, 5)"),
        (np.array([[1, 2], [3, np.nan]]), (2,), "must be finite numbers, got nan at [1, 1]"),
        (np.array([[1, np.inf]]), (2,), "must be finite numbers, got inf at [0, 1]"),
        (np.array([["a", "b"]]), (2,), "one array of real numbers, got <U1"),
        (np.array([[1j, 2]]), (2,), "one array of real numbers, got complex128"),
        (np.full((1, 2, 2), 0.5), (1, 2, 2), "whole numbers from 0 (black) to 255 (white)"),
        (np.full((1, 2, 2), 256), (1, 2, 2), "whole numbers from 0 (black) to 255 (white)"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, array: np.ndarray, shape: tuple[int, ...], message: str) -> None:
    np.save(tmp_path / "array.npy", array)
    assert message in refused(tmp_path / "array.npy", shape)


def test_damaged_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros((50, 2)))
    whole = (tmp_path / "array.npy").read_bytes()
    for length in (0, 5, 60, len(whole) - 8):
        (tmp_path / "array.npy").write_bytes(whole[:length])
        assert ".npy" in refused(tmp_path / "array.npy", (2,))


def test_files_that_cannot_be_input(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "none.csv", (2,))
    assert "no image in this folder or below" in refused(tmp_path, (1, 8, 8))
    (tmp_path / "notes.txt").touch()
    assert "a .csv or a .npy file" in refused(tmp_path / "notes.txt", (1, 8, 8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert "cannot be decoded" in refused(tmp_path / "broken.png", (1, 8, 8))
    assert "trained on features" in refused(tmp_path / "broken.png", (2,))


@pytest.mark.parametrize("names", [("a", "b"), ()])
def test_what_is_taken_for_a_header_or_left_out_is_named(tmp_path: Path, caplog, names: tuple[str, ...]) -> None:
    (tmp_path / "points.csv").write_text("x,y\n1,2\n")
    inputs = read_inputs(tmp_path / "points.csv", feature_shape=(2,), feature_names=names)
    assert inputs.features.tolist() == [[1.0, 2.0]]
    (said,) = caplog.messages
    assert "line 1 (x, y) is a header" in said
    (tmp_path / "points.csv").write_text("id,B,A\n7,1,2\n")
    if names:
        assert read_inputs(tmp_path / "points.csv", feature_shape=(2,), feature_names=names).features.tolist() == [
            [2, 1]
        ]
        assert "left out: id" in caplog.messages[-1]


def test_names_that_differ_in_their_case_only_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("a,A\n1,2\n")
    assert read_inputs(tmp_path / "points.csv", feature_shape=(2,), feature_names=("A", "a")).features.tolist() == [
        [2, 1]
    ]
