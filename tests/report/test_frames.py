"""Run folders are found and read; what is foreign, damaged or hostile is named."""

import json
import math
import os

import pytest

from mlplab.errors import ConfigError
from mlplab.report.frames import find, read, read_sweep


def test_run_folders_are_found_at_any_depth_each_once(make_run, tmp_path):
    deep, flat = make_run("x/y/a"), make_run("b")
    found, skipped = find([tmp_path, deep, tmp_path / "x"])
    assert sorted(found) == sorted([deep, flat])
    assert skipped == []


def test_a_sweep_has_the_runs_of_its_jobs_in_their_order(make_run, tmp_path):
    for name in ("sweep/a", "sweep/b", "sweep/left_over"):
        make_run(name)
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"jobs": ["b", "a", "to_come"]}))
    assert [folder.name for folder in find([tmp_path / "sweep"])[0]] == ["b", "a"]
    assert [folder.name for folder in read([tmp_path])[0]["about"]["folder"]] == ["b", "a"]


def test_a_run_is_read(make_run, history):
    config = {"optimizer": {"lr": 0.1}, "model": {"hidden_sizes": [16, 8]}, "study": {"name": "s"}}
    folder = make_run(
        "a", config, seed=3, overrides=("optimizer.lr=0.1",), history=history(0.5, 0.6), **{"val/acc": 0.7}
    )
    runs, rows, skipped = read([folder])
    assert skipped == []
    about, metrics = runs["about"].iloc[0], runs["metrics"].iloc[0]
    assert about["config"] == {"folder": ".", "seed": 3, "optimizer.lr": 0.1, "model.hidden_sizes": "[16,8]"}
    assert about["study"] == {"name": "s"}
    assert about["typed"] == {"optimizer.lr": "0.1", "seed": "3"}
    assert metrics["val/acc"] == 0.7  # of result.json, not of the history
    assert metrics["weights/l2_norm"] == 2  # the last one that the history has
    assert list(rows["updates"]) == [2, 4]


def test_the_last_look_of_a_test_curve_is_not_the_test_of_the_best_checkpoint(make_run):
    run = make_run("a", **{"val/acc": 0.9})
    (run / "history.csv").write_text("updates,val/acc,test/acc\n2,0.9,0.8\n4,0.7,0.6\n")
    runs, rows, _ = read([run])
    assert "test/acc" not in runs["metrics"]
    assert list(rows["test/acc"]) == [0.8, 0.6]


def test_metrics_that_are_no_numbers_are_nan(make_run):
    values = {"val/loss": "nan", "val/acc": [1], "x": {"y": 1}, "z": "1e3"}
    metrics = read([make_run("a", result={"metrics": values})])[0]["metrics"].iloc[0]
    assert [str(metrics[name]) for name in values] == ["nan", "nan", "nan", "1000.0"]


@pytest.mark.parametrize(
    ("share", "train", "val", "collapsed"),
    [
        (0.5, 0.5, 0.56, True),
        (0.5, 0.51, 0.95, False),  # dropout or augmentation makes training hard
        (0.1, 0.3, 0.25, False),
        (0.9, 0.9, 0.9, True),  # always the most frequent class
        (0.9, 0.95, 0.93, False),
        (0.5, 0.5, math.nan, True),  # without validation
        (1.0, 1.0, 1.0, False),  # there is nothing to learn
        (None, 0.5, 0.5, False),  # of an earlier version, which does not say
        ("x", 0.5, 0.5, False),
    ],
)
def test_a_run_that_ends_at_chance_has_collapsed(make_run, share, train, val, collapsed):
    metrics = {"train/acc": train, "val/acc": val}
    finished = make_run("a", result={"majority_share": share}, **metrics)
    stopped = make_run("b", result={"majority_share": share}, status="stopped", **metrics)
    assert list(read([finished, stopped])[0]["about"]["collapsed"]) == [collapsed, False]


DAMAGED = [
    ("result.json", ""), ("result.json", "[]"), ("result.json", "[" * 100_000), ("config.yaml", ""),
    ("config.yaml", "a: [1"), ("config.yaml", "a: &a\n  b: *a\n"), ("config.yaml", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_run_is_named_and_skipped(make_run, name, content):
    good, bad = make_run("good"), make_run("bad")
    (bad / name).unlink()
    if content is None:
        os.mkfifo(bad / name)  # which must not hang
    else:
        (bad / name).write_text(content)
    runs, _, skipped = read([good, bad])
    assert list(runs["about"]["folder"]) == [good]
    assert len(skipped) == 1
    assert f"bad/{name}" in skipped[0]
    with pytest.raises(ConfigError, match=f"bad/{name}"):
        read([bad])


BAD_HISTORIES = ["", "updates,val/acc\nx,y\n", "a,b\n1,2\n", "updates,a\n1,2\n1,2,3,4\n", "\0\1\n\2"]


@pytest.mark.parametrize("content", BAD_HISTORIES, ids=range(len(BAD_HISTORIES)))
def test_a_damaged_history_is_named_and_the_run_is_kept(make_run, content):
    folder = make_run("a")
    (folder / "history.csv").write_text(content)
    runs, rows, skipped = read([folder])
    assert (len(runs), len(rows), len(skipped)) == (1, 0, 1)
    assert "history.csv" in skipped[0]


def test_a_sweep_file_is_read_and_a_damaged_one_is_none(tmp_path):
    assert read_sweep(tmp_path) == {}
    (tmp_path / "sweep.json").write_text(json.dumps({"command": "python train.py -m seed=0,1"}))
    assert read_sweep(tmp_path)["command"] == "python train.py -m seed=0,1"
    (tmp_path / "sweep.json").write_text('{"jobs": null, "study": [1]}')
    assert read_sweep(tmp_path) == {"jobs": [], "study": {}}
    for content in ("{", "[]", "[" * 100_000):
        (tmp_path / "sweep.json").write_text(content)
        assert read_sweep(tmp_path) == {}
