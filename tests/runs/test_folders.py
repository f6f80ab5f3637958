"""Runs have names, and are found by them."""

import re

import pytest

from mlplab.errors import ConfigError
from mlplab.files import write_atomically
from mlplab.runs.folders import find_run, new_folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(*names, parent):
    for name in names:
        (parent / "outputs" / "train" / name).mkdir(parents=True)
        for file in ("result.json", "config.yaml"):
            write_atomically(parent / "outputs" / "train" / name / file, "{}")


def test_a_second_run_of_a_name_gets_a_number(tmp_path):
    assert new_folder("first") == "outputs/train/first"
    make("first", parent=tmp_path)
    assert new_folder("first") == "outputs/train/first_2"
    make("first_2", parent=tmp_path)
    assert new_folder("first") == "outputs/train/first_3"


def test_without_a_name_no_two_runs_share_a_folder():
    assert len({new_folder(None) for _ in range(20)}) == 20


def test_without_a_name_a_run_is_called_by_what_decides_its_numbers():
    typed = ["optimizer.lr=0.1", "model=mlp_dropout", "model.hidden_sizes=[8,4]", "figures=none", "test=false"]
    first, second = (new_folder(None, typed) for _ in range(2))
    assert re.fullmatch(r"outputs/train/hidden_sizes-8-4-_model-mlp_dropout_lr-0\.1_[0-9a-f]{4}", first), first
    assert first != second
    assert re.fullmatch(r"outputs/train/\d{4}-\d\d-\d\d_[\d-]+_[0-9a-f]{4}", new_folder(None, ["figures=none"]))
    assert new_folder("first", typed) == "outputs/train/first"


def test_a_run_is_found_by_path_name_and_as_the_last(tmp_path):
    make("first", "second", parent=tmp_path)
    write_atomically(tmp_path / "outputs" / "train" / "first" / "result.json", "{ }")  # it was evaluated
    assert str(find_run("last")) == "outputs/train/second"
    (tmp_path / "outputs" / "train" / "first" / "checkpoints").mkdir()
    write_atomically(tmp_path / "outputs" / "train" / "first" / "checkpoints" / "last.ckpt", "{ }")  # it went on
    for run in ("first", "last", "outputs/train/first"):
        assert str(find_run(run)) == "outputs/train/first"
    assert find_run(tmp_path / "nowhere" / "x.ckpt") == tmp_path / "nowhere" / "x.ckpt"


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no run last: there are no runs in outputs/train yet"):
        find_run("last")
    make("first", parent=tmp_path)
    with pytest.raises(ConfigError, match=r"no run frist in outputs/train; did you mean 'first'\?"):
        find_run("frist")


def test_several_runs_are_for_a_report(tmp_path):
    with pytest.raises(ConfigError, match=r"run must be one run, got \['a', 'b'\]; scripts/report.py compares several"):
        find_run(["a", "b"])
