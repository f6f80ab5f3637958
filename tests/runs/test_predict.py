"""Predictions are the loaded model's probabilities, whatever the input is stored as; bad input is named."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlplab.errors import ConfigError
from mlplab.files import write_checkpoint
from mlplab.runs.evaluate import load_run
from mlplab.runs.predict import load_predictor, predict

BARE = ("callbacks=none", "logger=none", "test=false", "trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def passing(tmp_path_factory, launch_in):
    """A run on two named features and two classes."""
    return launch_in(tmp_path_factory.mktemp("runs") / "passing", BARE).folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory, launch_in):
    """A run on grey images and ten classes."""
    return launch_in(tmp_path_factory.mktemp("runs") / "digits", (*BARE, "data=digits", "data.train_size=200")).folder


@pytest.fixture(scope="module")
def predicted(composed):
    """The rows of the written CSV, header first, and their probabilities (n, classes)."""

    def rows_and_probabilities(run, source, output, *overrides):
        files = f"run={run}", f"input={source}", f"output={output}"
        predict(composed("predict", *files, "accelerator=cpu", *overrides))
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        return rows, torch.tensor([[float(cell) for cell in row[2:]] for row in rows[1:]])

    return rows_and_probabilities


def expected(run, features):
    """The probabilities of the run's model, rebuilt with its data."""
    loaded = load_run(run)
    with torch.no_grad():
        return loaded.model.loss.probabilities(loaded.model(loaded.data.preprocess(features)))


# The same probabilities


def test_csv_without_header_gives_the_models_probabilities(passing, tmp_path, predicted):
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
        "\ufeffHours on the final project,Lectures attended\n0.1,0.9\n0.3,0.2\n",
        '"HOURS_ON_THE_FINAL_PROJECT", " lectures  attended "\n0.1,0.9\n0.3,0.2\n',
        "# lectures attended,hours on the final project\n0.9,0.1\n0.2,0.3\n",  # as numpy.savetxt writes it
        ",hours on the final project,name,lectures attended\n0,0.1,Ann,0.9\n1,0.3,Bob,0.2\n",  # and other columns
    ],
)
def test_csv_headers(passing, tmp_path, text, predicted):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    _, probabilities = predicted(passing, tmp_path / "points.csv", tmp_path / "out.csv")
    assert torch.equal(probabilities, expected(passing, torch.tensor([[0.9, 0.1], [0.2, 0.3]])))


def test_images_in_every_layout_give_the_same(digits, tmp_path, predicted):
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


def test_needs_the_run_folder_only(tmp_path, launch_in, predicted):
    generator = np.random.default_rng(0)
    for name in ("bright", "dark"):
        folder = tmp_path / "tree" / "train" / name
        folder.mkdir(parents=True)
        for index in range(8):
            pixels = generator.integers(0, 100, (5, 6, 3)) + (155 if name == "bright" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    overrides = ("data=image_folder", f"data.root={tmp_path / 'tree'}", "data.cache=false", "batching=full_batch")
    run = launch_in(tmp_path / "run", (*BARE, *overrides)).folder
    picture = tmp_path / "tree" / "train" / "bright" / "3.png"
    before = expected(run, load_run(run).data.source.features[3:4])
    shutil.copy(picture, tmp_path / "picture.png")
    shutil.rmtree(tmp_path / "tree")
    rows, probabilities = predicted(run, tmp_path / "picture.png", tmp_path / "out.csv")
    assert torch.equal(probabilities, before)
    assert rows[0][2:] == ["p(bright)", "p(dark)"]
    assert rows[1][0] == "picture.png"


def test_images_of_another_size_and_channels_are_converted(digits, tmp_path, caplog, predicted):
    Image.new("RGB", (20, 16), (255, 255, 255)).save(tmp_path / "large.jpg")
    _, probabilities = predicted(digits, tmp_path / "large.jpg", tmp_path / "out.csv")
    assert torch.equal(probabilities, expected(digits, torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)))
    assert "1 of 1 images resized to the training size 8×8" in caplog.text
    assert "20×16" in caplog.text


def test_pixels_scaled_to_one_are_warned_of(digits, tmp_path, caplog, predicted):
    np.save(tmp_path / "images.npy", np.ones((2, 8, 8), dtype=np.uint8))
    predicted(digits, tmp_path / "images.npy", tmp_path / "out.csv")
    assert "no pixel is above 1" in caplog.text


# The output file


@pytest.fixture
def points(tmp_path):
    (tmp_path / "points.csv").write_text("0.5,0.5\n")
    return tmp_path / "points.csv"


def test_output_is_replaced_only_on_request(passing, points, tmp_path, predicted):
    output = tmp_path / "out.csv"
    output.write_text("precious")
    with pytest.raises(ConfigError, match="exists; choose another file, or replace it with overwrite=true"):
        predicted(passing, points, output)
    assert output.read_text() == "precious"
    predicted(passing, points, output, "overwrite=true")
    assert output.read_text().startswith("name,class")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "points.csv"]


def test_output_that_cannot_be_written_or_must_not_be_is_named(passing, points, tmp_path, predicted):
    os.link(points, tmp_path / "same.csv")
    outputs = {"points.csv": "is the input", "same.csv": "is the input", "": "is a folder",
               "no/out.csv": "not a folder that can be"}  # fmt: skip
    for output, message in outputs.items():
        with pytest.raises(ConfigError, match=message):
            predicted(passing, points, tmp_path / output, "overwrite=true")


def test_a_checkpoint_that_says_nothing_of_its_data_is_named(passing, tmp_path):
    shutil.copytree(passing, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    write_checkpoint({"state_dict": {}}, checkpoint)
    with pytest.raises(ConfigError, match="does not say what data its network takes"):
        load_predictor(tmp_path / "run")
