"""Brightness equals a plain NumPy reference, and all images are all images."""

import re

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def script(load):
    return load("mean_brightness")


@pytest.fixture
def tree(tmp_path):
    """An image folder with 6 + 4 training images and 2 + 1 test images of 7×5 pixels in colour."""
    generator = np.random.default_rng(0)
    for split, numbers in (("train", {"one": 6, "two": 4}), ("test", {"one": 2, "two": 1})):
        for name, number in numbers.items():
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(generator.integers(0, 256, (7, 5, 3)).astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "tree"


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_brightness_equals_numpy(script, batch_size, channels):
    images = np.random.default_rng(0).integers(0, 256, (50, channels, 6, 5)).astype(np.uint8)
    result = script.brightness(torch.from_numpy(images), batch_size=batch_size)
    reference = images.astype(np.float64) / 255
    assert list(result.per_channel.values()) == pytest.approx(reference.mean(axis=(0, 2, 3)).tolist(), rel=1e-15)
    assert result.total == int(images.sum(dtype=np.int64)) / (255 * images.size)  # a single rounding, so of any batch
    np.testing.assert_allclose(result.per_image, reference.mean(axis=(1, 2, 3)), rtol=1e-15)


def test_brightness_beyond_what_float32_can_add_up(script):
    images = np.full((3, 1, 3000, 3000), 255, dtype=np.uint8)
    images[0, 0, 0, 0] = 254
    result = script.brightness(torch.from_numpy(images), batch_size=2)
    assert result.total == (255 * images.size - 1) / (255 * images.size) < 1


def test_opacity_is_no_brightness(script):
    images = torch.zeros(3, 4, 2, 2, dtype=torch.uint8)
    images[:, 3] = 255
    result = script.brightness(images, batch_size=10)
    assert result.per_channel == {"red": 0, "green": 0, "blue": 0, "opacity": 1}
    assert result.total == 0
    assert result.per_image.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("images", "said"), [("train", "10 train"), ("test", "3 test"), ("all", "all 13")])
def test_mean_brightness_of_a_folder(script, composed, tree, tmp_path, images, said, capsys):
    figure = tmp_path / "made" / "brightness.png"
    chosen = [] if images == "all" else [f"images={images}"]  # which is the default
    root = f"data.root={tree}"
    result = script.mean_brightness(
        composed("mean_brightness", "data=image_folder", root, "batch_size=3", f"figure={figure}", *chosen)
    )
    files = sorted((tree if images == "all" else tree / images).rglob("*.png"))
    reference = np.stack([np.asarray(Image.open(file)) for file in files]) / 255
    assert result.total == pytest.approx(reference.mean(), rel=1e-15)
    assert list(result.per_channel) == ["red", "green", "blue"]
    assert list(result.per_channel.values()) == pytest.approx(reference.mean(axis=(0, 1, 2)).tolist(), rel=1e-15)
    assert Image.open(figure).width > 500
    printed = capsys.readouterr().out
    assert f"Mean brightness of {said} images, " in printed
    assert re.search(rf"^total +{result.total:.6f}$", printed, flags=re.MULTILINE)


def test_no_image_is_set_aside(script, composed, capsys):
    whole = script.mean_brightness(composed("mean_brightness", "figure=null"))
    assert len(whole.per_image) == 1797
    assert "all 1,797 images" in capsys.readouterr().out
    cut = ("data.val_fraction=0.5", "data.train_size=10", "images=train")
    assert script.mean_brightness(composed("mean_brightness", "figure=null", *cut)).total == whole.total
