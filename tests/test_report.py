"""Runs as one table: groups over seeds, spread, what did not finish."""

import pytest
from omegaconf import OmegaConf

from mlplab.checks import ConfigError
from mlplab.record import Record
from mlplab.report import groups, report, run_folders, spread


def finished_run(folder, seed, accuracy, *overrides, status="finished"):
    values = {
        "status": status, "overrides": [*overrides, f"seed={seed}"], "updates": 10, "fit_seconds": 1.0,
        "metrics": {"train/acc": 1.0, "val/acc": 0.5, "test/acc": accuracy},
    }  # fmt: skip
    Record(folder, values).create(OmegaConf.create({}))


def test_runs_that_differ_in_the_seed_only_form_a_group(tmp_path, capsys):
    for seed, accuracy in ((0, 0.8), (1, 0.9), (2, 1.0)):
        finished_run(tmp_path / f"a{seed}", seed, accuracy, "model=mlp")
    finished_run(tmp_path / "deeper" / "b", 0, 0.25, "model=perceptron")
    report([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    (mlp,) = (line for line in lines if line.startswith("model=mlp"))
    (perceptron,) = (line for line in lines if line.startswith("model=perceptron"))
    assert "90.00 ± 10.00" in mlp
    assert mlp.split("│")[1].strip() == "3"
    assert "25.00" in perceptron


def test_runs_that_did_not_finish_are_named_and_left_out(tmp_path, capsys):
    finished_run(tmp_path / "good", 0, 0.5)
    finished_run(tmp_path / "bad", 1, 0.0, status="diverged")
    report([str(tmp_path)])
    out = capsys.readouterr().out
    assert f"diverged: {tmp_path / 'bad'}" in out
    assert "50.00" in out
    assert "25.00" not in out


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        report([str(tmp_path)])


def test_spread_is_mean_and_sample_standard_deviation():
    assert spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert spread([2.0, 2.0]) == "2.00"
    assert spread([1234.5], 1) == "1,234.5"
    assert spread([]) == ""


def test_a_run_folder_is_found_at_any_depth(tmp_path):
    finished_run(tmp_path / "x" / "y", 0, 1.0)
    assert run_folders(tmp_path) == run_folders(tmp_path / "x" / "y") == [tmp_path / "x" / "y"]


def test_defaults_are_a_group_of_their_own():
    assert list(groups([{"overrides": ["seed=3", "hydra.run.dir=a"]}])) == ["(defaults)"]
