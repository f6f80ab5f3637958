"""Predictions are the loaded model's probabilities, whatever the input is stored as; bad input is named."""

import csv
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from mlplab.cli import CONF
from mlplab.data.inputs import read_inputs
from mlplab.errors import ConfigError
from mlplab.files import write_checkpoint
from mlplab.runs.evaluate import load_run
from mlplab.runs.predict import load_predictor, predict
from mlplab.runs.train import train

QUICK = ("trainer=cpu", "trainer.max_epochs=2", "callbacks=none", "logger=none", "test=false",
         "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")  # fmt: skip


def trained(folder: Path, *overrides: str) -> Path:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*QUICK, *overrides, f"folder={folder}"])
    train(config)
    return folder


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two named features and two classes."""
    return trained(tmp_path_factory.mktemp("runs") / "passing", "data.num_samples=100")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on grey images and ten classes."""
    return trained(tmp_path_factory.mktemp("runs") / "digits", "data=digits", "data.train_size=200")


def predicted(run: Path, source: Path, output: Path, *overrides: str) -> tuple[list[list[str]], Tensor]:
    """The rows of the written CSV, header first, and their probabilities (n, classes)."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "predict", [f"run={run}", f"input={source}", f"output={output}", "accelerator=cpu", *overrides]
        )  # fmt: skip
    predict(config)
    with output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return rows, torch.tensor([[float(cell) for cell in row[2:]] for row in rows[1:]])


def expected(run: Path, features: Tensor) -> Tensor:
    """The probabilities of the run's model, rebuilt with its data."""
    loaded = load_run(run)
    with torch.no_grad():
        return loaded.model.loss.probabilities(loaded.model(loaded.data.preprocess(features)))


# The same probabilities


def test_csv_without_header_gives_the_models_probabilities(passing: Path, tmp_path: Path) -> None:
    points = load_run(passing).data.source.features
    np.savetxt(tmp_path / "points.csv", points.double().numpy(), delimiter=",", fmt="%.17g")
    rows, probabilities = predicted(passing, tmp_path / "points.csv", tmp_path / "out.csv")
    assert torch.equal(probabilities, expected(passing, points))
    assert rows[0] == ["name", "class", "p(fail)", "p(pass)"]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(1, len(points) + 1)]
    assert [row[1] for row in rows[1:]] == [("fail", "pass")[index] for index in probabilities.argmax(dim=1)]


@pytest.mark.parametrize(
    "text",
    [
        "lectures attended,hours on the final project\n0.9,0.1\n0.2,0.3\n",
        "hours on the final project,lectures attended\n0.1,0.9\n0.3,0.2\n",  # the columns follow their names
        "a,b\n0.9,0.1\n\n0.2,0.3\n",  # other names, a blank line
        "\ufeff0.9,0.1\r\n 0.2, 0.3",  # as spreadsheets write it, and no end of line
    ],
)
def test_csv_headers(passing: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    _, probabilities = predicted(passing, tmp_path / "points.csv", tmp_path / "out.csv")
    assert torch.equal(probabilities, expected(passing, torch.tensor([[0.9, 0.1], [0.2, 0.3]])))


def test_npy_of_features_in_any_real_type(passing: Path, tmp_path: Path) -> None:
    for dtype in (np.float64, np.float32, np.uint8):
        np.save(tmp_path / "points.npy", np.array([[0, 1], [1, 1]], dtype=dtype))
        _, probabilities = predicted(passing, tmp_path / "points.npy", tmp_path / "out.csv", "overwrite=true")
        assert torch.equal(probabilities, expected(passing, torch.tensor([[0.0, 1.0], [1.0, 1.0]])))


def test_images_in_every_layout_give_the_same(digits: Path, tmp_path: Path) -> None:
    images = load_run(digits).data.source.features[:30]  # (30, 1, 8, 8)
    layouts = {
        "flat": images.flatten(start_dim=1),
        "plain": images[:, 0],
        "first": images,
        "last": images.permute(0, 2, 3, 1),
        "long": images.long(),
    }
    for name, layout in layouts.items():
        np.save(tmp_path / f"{name}.npy", layout.numpy())
    np.savetxt(tmp_path / "pixels.csv", images.flatten(start_dim=1).numpy(), delimiter=",", fmt="%d")
    folder = tmp_path / "images"
    for index, image in enumerate(images):
        file = folder / ("upper.d" if index < 10 else "lower/deep") / f"{index:02}.PNG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(file)

    reference = expected(digits, images)
    for name in (*(f"{layout}.npy" for layout in layouts), "pixels.csv"):
        rows, probabilities = predicted(digits, tmp_path / name, tmp_path / f"{name}.out.csv")
        assert torch.equal(probabilities, reference), name
    rows, probabilities = predicted(digits, folder, tmp_path / "folder.csv")
    names = [row[0] for row in rows[1:]]
    assert names[0] == "lower/deep/10.PNG"
    assert names == sorted(names)
    order = [int(Path(name).stem) for name in names]
    torch.testing.assert_close(probabilities, reference[order], rtol=0, atol=1e-6)  # other neighbours in the batch


def test_batch_size_changes_nothing_but_rounding(digits: Path, tmp_path: Path) -> None:
    images = load_run(digits).data.source.features[:10]
    np.save(tmp_path / "images.npy", images.numpy())
    for size in (1, 3):
        _, probabilities = predicted(
            digits, tmp_path / "images.npy", tmp_path / f"{size}.csv", f"batch_size={size}"
        )  # fmt: skip
        torch.testing.assert_close(probabilities, expected(digits, images), rtol=0, atol=1e-6)


def test_last_checkpoint_can_be_chosen(digits: Path) -> None:
    ours = load_predictor(digits, checkpoint="last").model.state_dict()
    theirs = load_run(digits, checkpoint="last").model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_needs_the_run_folder_only(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("bright", "dark"):
        folder = tmp_path / "tree" / "train" / name
        folder.mkdir(parents=True)
        for index in range(8):
            pixels = generator.integers(0, 100, (5, 6, 3)) + (155 if name == "bright" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    run = trained(
        tmp_path / "run",
        "data=image_folder",
        f"data.root={tmp_path / 'tree'}",
        "data.cache=false",
        "batching=full_batch",
    )
    picture = tmp_path / "tree" / "train" / "bright" / "3.png"
    before = expected(run, load_run(run).data.source.features[3:4])
    shutil.copy(picture, tmp_path / "picture.png")
    shutil.rmtree(tmp_path / "tree")
    rows, probabilities = predicted(run, tmp_path / "picture.png", tmp_path / "out.csv")
    assert torch.equal(probabilities, before)
    assert rows[0][2:] == ["p(bright)", "p(dark)"]
    assert rows[1][0] == "picture.png"


def test_images_of_another_size_and_channels_are_converted(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (20, 16), (255, 255, 255)).save(tmp_path / "large.jpg")
    _, probabilities = predicted(digits, tmp_path / "large.jpg", tmp_path / "out.csv")
    assert torch.equal(probabilities, expected(digits, torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)))
    assert "1 of 1 images resized to the training size 8×8" in caplog.text
    assert "20×16" in caplog.text


def test_pixels_scaled_to_one_are_warned_of(digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "images.npy", np.ones((2, 8, 8), dtype=np.uint8))
    predicted(digits, tmp_path / "images.npy", tmp_path / "out.csv")
    assert "no pixel is above 1" in caplog.text


# The output file


def test_output_is_replaced_only_on_request(passing: Path, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("0.5,0.5\n")
    output = tmp_path / "out.csv"
    output.write_text("precious")
    with pytest.raises(ConfigError, match="exists; choose another file, or replace it with overwrite=true"):
        predicted(passing, tmp_path / "points.csv", output)
    assert output.read_text() == "precious"
    predicted(passing, tmp_path / "points.csv", output, "overwrite=true")
    assert output.read_text().startswith("name,class")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "points.csv"]


def test_the_input_is_never_overwritten(passing: Path, tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("0.5,0.5\n")
    os.link(points, tmp_path / "same.csv")
    for output in (points, tmp_path / "same.csv"):
        with pytest.raises(ConfigError, match="is the input"):
            predicted(passing, points, output, "overwrite=true")


def test_output_must_be_a_file_in_a_folder_that_exists(passing: Path, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("0.5,0.5\n")
    for output, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "out.csv", "not a folder that can be")):
        with pytest.raises(ConfigError, match=message):
            predicted(passing, tmp_path / "points.csv", output)


def test_faults_of_run_input_and_output_are_reported_together(passing: Path, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("0.5\n")
    (tmp_path / "out.csv").touch()
    for run, source, said in (
        (tmp_path / "none", "none.csv", ("no run folder", "no such file", "exists")),
        (tmp_path / "none", "points.csv", ("no run folder", "exists")),
        (passing, "points.csv", ("expected 2 columns", "exists")),
    ):
        with pytest.raises(ConfigError) as error:
            predicted(run, tmp_path / source, tmp_path / "out.csv")
        assert len(error.value.faults) == len(said)
        for part, fault in zip(said, error.value.faults, strict=True):
            assert part in fault


def test_bad_switches_are_refused(passing: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="overwrite must be True or False, got 'maybe'"):
        predicted(passing, tmp_path, tmp_path / "out.csv", "overwrite=maybe")


# Bad input


def refused(path: Path, shape: tuple[int, ...], names: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as error:
        read_inputs(path, feature_shape=shape, feature_names=names)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0.5,0.6,1\n", "line 1: expected 2 columns (a, b), separated by commas and without labels, got 3"),
        ("0.5;0.6\n", "line 1: expected 2 columns (a, b), separated by commas and without labels, got 1"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 columns"),
        ("a,b\n1,2\n3,x\n", "line 3, column 2: must be a finite number, got 'x'"),
        ("1,\n", "line 1, column 2: must be a finite number, got ''"),
        ("1,2\n,\n", "line 2, column 1: must be a finite number, got ''"),
        ("1,2\na,b\n", "line 2, column 1: must be a finite number, got 'a'"),
        ("1,nan\n", "line 1, column 2: must be a finite number, got 'nan'"),
        ("1e39,1\n", "line 1, column 1: must be a finite number, got '1e39'"),
        ("", "no row of numbers; expected 2 columns"),
        ("a,b\n", "no row of numbers; expected 2 columns"),
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


def test_text_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(bytes(range(128, 256)))
    assert "UTF-8" in refused(path, (2,))


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (np.zeros((3, 5)), (2,), "shape (n, 2) with n ≥ 1, got (3, 5)"),
        (np.zeros(2), (2,), "shape (n, 2) with n ≥ 1, got (2,)"),
        (np.zeros((0, 2)), (2,), "got (0, 2)"),
        (np.zeros((4, 5)), (1, 4, 5), "(n, 20) or (n, 1, 4, 5) or (n, 4, 5, 1) or (n, 4, 5) with n ≥ 1, got (4, 5)"),
        (np.zeros((2, 4, 5)), (3, 4, 5), "(n, 60) or (n, 3, 4, 5) or (n, 4, 5, 3) with n ≥ 1, got (2, 4, 5)"),
        (np.array([[1, 2], [3, np.nan]]), (2,), "must be finite numbers, got nan at [1, 1]"),
        (np.array([[1, np.inf]]), (2,), "must be finite numbers, got inf at [0, 1]"),
        (np.array([["a", "b"]]), (2,), "one array of real numbers, got <U1"),
        (np.array([[1j, 2]]), (2,), "one array of real numbers, got complex128"),
        (np.full((1, 2, 2), 0.5), (1, 2, 2), "whole numbers from 0 (black) to 255 (white)"),
        (np.full((1, 2, 2), 256), (1, 2, 2), "whole numbers from 0 (black) to 255 (white)"),
        (np.full((1, 2, 2), -1), (1, 2, 2), "whole numbers from 0 (black) to 255 (white)"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, array: np.ndarray, shape: tuple[int, ...], message: str) -> None:
    np.save(tmp_path / "array.npy", array)
    assert message in refused(tmp_path / "array.npy", shape)


class Trap:
    """Pickled, it would make a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([Trap(tmp_path / "ran")], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    for name in ("objects.npy", "pickle.npy"):
        assert "pickle" in refused(tmp_path / name, (2,))
    assert not (tmp_path / "ran").exists()


def test_damaged_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros((50, 2)))
    whole = (tmp_path / "array.npy").read_bytes()
    for length in (0, 5, 60, len(whole) - 8):
        (tmp_path / "array.npy").write_bytes(whole[:length])
        assert ".npy" in refused(tmp_path / "array.npy", (2,))


def test_files_that_cannot_be_input(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "none.csv", (2,))
    assert "no PNG or JPEG image" in refused(tmp_path, (1, 8, 8))
    (tmp_path / "notes.txt").touch()
    assert "a .csv or a .npy file" in refused(tmp_path / "notes.txt", (1, 8, 8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert "cannot be decoded" in refused(tmp_path / "broken.png", (1, 8, 8))
    assert "trained on features" in refused(tmp_path / "broken.png", (2,))


def test_folders_that_hold_no_run(passing: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder"):
        load_predictor(tmp_path / "none")
    shutil.copytree(passing, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    write_checkpoint({"state_dict": {}}, checkpoint)
    with pytest.raises(ConfigError, match="does not say what data its network takes"):
        load_predictor(tmp_path / "run")
    checkpoint.write_bytes(b"PK")
    with pytest.raises(ConfigError, match="is damaged"):
        load_predictor(tmp_path / "run")


def test_weights_of_another_network(passing: Path, digits: Path, tmp_path: Path, save_config: Any) -> None:
    shutil.copytree(digits, tmp_path / "run")
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    config.model.hidden_sizes[0] += 1
    save_config(tmp_path / "run", config)
    with pytest.raises(ConfigError, match="does not fit the network"):
        load_predictor(tmp_path / "run")
