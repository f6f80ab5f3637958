"""The front door for notebooks: what the command line does, as functions."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import mlplab
from mlplab.data.inputs import samples_as_features
from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint
from mlplab.runs.checkpoints import weights_digest

TINY = ("data.num_samples=80", "trainer.max_epochs=3", "trainer=cpu", "logger=none")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("front"))
        yield mlplab.train(*TINY, "model=mlp_dropout", "model.dropout=0.5", name="first")


def test_a_run_tells_what_it_is(run):
    assert run.folder.as_posix().endswith("outputs/train/first")
    assert run.config.model.dropout == 0.5
    assert run.class_names == ["fail", "pass"]
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.history["val/acc"].iloc[-1] == run.metrics["val/acc"]
    assert not run.model.training


def test_arrays_tensors_lists_and_frames_are_predicted_alike(run):
    points = np.array([[0.1, 0.2], [0.9, 0.8]], dtype=np.float32)
    expected = run.predict(points)
    with torch.no_grad():
        shares = run.model.probabilities(run.data.preprocess(torch.from_numpy(points)))
    assert np.allclose(expected[["p(fail)", "p(pass)"]], shares)
    assert expected["class"].tolist() == [run.class_names[int(row.argmax())] for row in shares]
    frame = pd.DataFrame(points, columns=["lectures attended", "hours on the final project"])
    for same in (points.tolist(), torch.from_numpy(points), frame, frame.iloc[:, ::-1].assign(name="x")):
        pd.testing.assert_frame_equal(run.predict(same), expected)
    with pytest.raises(ConfigError, match=r"features must have the shape \(n, 2\), got \(2, 3\)"):
        run.predict(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="features: no column hours on the final project; there are: lect"):
        run.predict(frame.iloc[:, :1])
    nameless = {"feature_shape": (2,), "feature_names": ()}  # as those of circles
    with pytest.raises(ConfigError, match=r"features must have the shape \(n, 2\), got \(2, 1\)"):
        samples_as_features(frame.iloc[:, :1], **nameless)
    assert samples_as_features(frame, **nameless).tolist() == points.tolist()
    for no_numbers in (run.data, "points", [[0.1], [0.2, 0.3]]):
        with pytest.raises(ConfigError, match="features must be an array, tensor or frame of numbers"):
            run.predict(no_numbers)
    with pytest.raises(ConfigError, match="finite"):
        run.predict([[0.0, np.nan]])
    with pytest.raises(ConfigError, match="finite"):
        run.predict([[0.0, 1e300]])


def test_figures_of_the_run_folder(run):
    assert {"decision_boundary", "learning_curves", "weights"} <= set(run.plot())
    assert isinstance(run.plot("learning_curves"), Figure)
    with pytest.raises(ConfigError, match="no figure 'learning_curve'; did you mean 'learning_curves'"):
        run.plot("learning_curve")


def test_a_run_ends_with_its_page_which_shows_a_film_of_the_boundary(run, capsys):
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/webp;base64" in page
    with Image.open(run.folder / "figures" / "decision_boundary.webp") as film:
        assert film.n_frames == 3  # as many looks as at so short a run
    assert (run.folder / "report.html").stat().st_size < 3_000_000
    plain = mlplab.train(*TINY, "figures=none", name="plain")
    assert not (plain.folder / "report.html").exists()
    assert "report       python scripts/report.py outputs/train/plain" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_does_not_fail_the_run(run, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("mlplab.report.launch.write_run_page", fail)
    assert mlplab.train(*TINY, name="inkless").metrics
    assert "the page could not be written: RuntimeError: no ink" in caplog.text


@pytest.mark.parametrize("override", ["callbacks.checkpoint.save_top_k=0", "~callbacks.checkpoint"])
def test_a_run_that_keeps_no_best_state_comes_with_its_last_weights(override, run):
    kept = mlplab.train(*TINY, "figures=none", override)
    record = json.loads((kept.folder / "result.json").read_text())
    assert weights_digest(kept.model.network) == record["weights_digest"]


def test_a_run_comes_with_the_weights_that_were_tested_whatever_their_file_is_called(run):
    rising = (
        "optimizer.lr=5",
        "trainer.max_epochs=6",
        "callbacks.checkpoint.filename=mine",
    )  # so that the best is early
    kept = mlplab.train(*TINY, "figures=none", *rising)
    record = json.loads((kept.folder / "result.json").read_text())
    assert record["best_epoch"] < 6
    assert weights_digest(kept.model.network) != record["weights_digest"]
    trained = read_checkpoint(kept.folder / record["best_checkpoint"])["state_dict"]
    assert all(torch.equal(trained[name], value) for name, value in kept.model.state_dict().items())


def test_a_name_is_used_once_and_found_again(run):
    again = mlplab.train(*TINY, "figures=none", "seed=1", name="first")
    assert again.folder.name == "first_2"
    for name in ("last", "first_2"):
        assert mlplab.load_run(name).config.seed == 1
    assert mlplab.load_run("first").config.seed == 0
    longer = mlplab.train("resume=first_2", "trainer.max_epochs=5")
    assert len(longer.history) == 5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.lrr=1", "data.batch_size=0"], r"optimizer\.lrr: no such key.*\n.*data\.batch_size must be"),
        (["study=dropout"], r"study=dropout is a sweep of many runs: mlplab\.sweep\('study=dropout'\)"),
        (["data = moons"], "data = moons: cannot be read; .*, no blank before ="),
        (["name=a/b"], "name must be null or a folder's name"),
        (["resume=nowhere"], "no run nowhere in"),
    ],
)
def test_mistakes_are_exceptions_with_the_text_of_the_command_line(overrides, said, run):
    with pytest.raises(ConfigError, match=said):
        mlplab.train(*overrides)


@pytest.mark.slow
def test_a_sweep_gives_its_summary(run, capsys):
    sweep = mlplab.sweep(*TINY, "seed=range(2)", "test=false", name="seeds")
    assert (len(sweep.summary), sweep.folder.name) == (2, "seeds")
    assert "2/2  seed=1" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="model=mpl: no such choice"):
        mlplab.sweep("model=mpl,mlp")


def test_a_notebook_starts_no_processes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    with pytest.raises(ConfigError, match=r"trainer\.strategy=ddp starts processes, which a notebook cannot"):
        mlplab.train("trainer=ddp_cpu")
