"""Brightness equals a plain NumPy reference; what is shown of a data set is what training is served."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from mlplab.data.statistics import brightness
from mlplab.inspection import inspect_data, mean_brightness, sample_figure
from omegaconf import DictConfig
from PIL import Image

from mlplab.cli import CONF
from mlplab.config.check import config_faults
from mlplab.data.loader import InMemoryDataset
from mlplab.errors import ConfigError
from mlplab.runs import build


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, list(overrides))


def dataset(images: np.ndarray) -> InMemoryDataset:
    return InMemoryDataset(torch.from_numpy(images), torch.zeros(len(images), dtype=torch.int64))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An image folder with 6 + 4 training images and 2 + 1 test images of 7×5 pixels in colour."""
    generator = np.random.default_rng(0)
    for split, numbers in (("train", {"one": 6, "two": 4}), ("test", {"one": 2, "two": 1})):
        for name, number in numbers.items():
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(generator.integers(0, 256, (7, 5, 3)).astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "tree"


def pixels(folder: Path) -> np.ndarray:
    """All images below a folder, float64 from 0 to 1, (n, height, width, channels)."""
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.rglob("*.png"))]) / 255


# Brightness


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_equals_numpy(batch_size: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, channels, 6, 5)).astype(np.uint8)
    result = brightness([dataset(images)], batch_size=batch_size)
    reference = images.astype(np.float64) / 255
    assert result.total == pytest.approx(reference.mean(), rel=1e-15)
    assert list(result.per_channel.values()) == pytest.approx(reference.mean(axis=(0, 2, 3)).tolist(), rel=1e-15)
    np.testing.assert_allclose(result.per_image.numpy(), reference.mean(axis=(1, 2, 3)), rtol=1e-15)


def test_brightness_does_not_depend_on_the_batch_size_at_all() -> None:
    images = np.random.default_rng(1).integers(0, 256, (50, 3, 6, 5)).astype(np.uint8)
    results = [brightness([dataset(images)], batch_size=size) for size in (1, 7, 50, 1000)]
    assert len({(result.total, *result.per_channel.values()) for result in results}) == 1
    assert results[0].total == int(images.sum(dtype=np.int64)) / (255 * images.size)  # a single rounding


def test_brightness_beyond_what_float32_can_add_up() -> None:
    images = np.full((3, 1, 3000, 3000), 255, dtype=np.uint8)
    images[0, 0, 0, 0] = 254
    result = brightness([dataset(images)], batch_size=2)
    assert result.total == (255 * images.size - 1) / (255 * images.size) < 1


def test_brightness_of_several_data_sets_is_that_of_all_their_images() -> None:
    images = np.random.default_rng(2).integers(0, 256, (9, 3, 4, 4)).astype(np.uint8)
    parts = brightness([dataset(images[:2]), dataset(images[2:])], batch_size=4)
    whole = brightness([dataset(images)], batch_size=4)
    assert parts.total == whole.total
    assert torch.equal(parts.per_image, whole.per_image)


def test_only_the_indexed_images_count() -> None:
    images = np.zeros((4, 1, 2, 2), dtype=np.uint8)
    images[2] = 255
    chosen = dataset(images)
    chosen = InMemoryDataset(chosen.features, chosen.labels, torch.tensor([1, 2]))
    assert brightness([chosen], batch_size=10).total == 0.5


def test_opacity_is_no_brightness() -> None:
    images = np.zeros((3, 4, 2, 2), dtype=np.uint8)
    images[:, 3] = 255
    result = brightness([dataset(images)], batch_size=10)
    assert result.per_channel == {"red": 0, "green": 0, "blue": 0, "opacity": 1}
    assert result.total == 0
    assert result.per_image.tolist() == [0, 0, 0]


def test_no_image_at_all() -> None:
    with pytest.raises(ConfigError, match="no images"):
        brightness([], batch_size=10)


# scripts/mean_brightness.py


@pytest.mark.parametrize("images", ["train", "test", "all"])
def test_mean_brightness_of_a_folder(
    tree: Path, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "brightness.png"
    result = mean_brightness(
        composed(
            "mean_brightness", "data=image_folder", f"data.root={tree}", f"images={images}", "batch_size=3",
            f"figure={figure}",
        )
    )  # fmt: skip
    reference = pixels(tree if images == "all" else tree / images)
    assert result.total == pytest.approx(reference.mean(), rel=1e-15)
    assert list(result.per_channel) == ["red", "green", "blue"]
    assert list(result.per_channel.values()) == pytest.approx(reference.mean(axis=(0, 1, 2)).tolist(), rel=1e-15)
    assert Image.open(figure).width > 500
    printed = capsys.readouterr().out
    assert f"{len(reference)} images" in printed
    assert f"{result.total:.6f}" in printed


def test_training_images_include_those_for_validation() -> None:
    whole = mean_brightness(composed("mean_brightness", "figure=null"))
    assert len(whole.per_image) == 1797
    cut = mean_brightness(composed("mean_brightness", "figure=null", "data.val_fraction=0.5", "data.train_size=10"))
    assert cut.total == whole.total


def test_mean_brightness_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    for override, message in (
        ("data=passing", "must be images"),
        ("images=test", "no official test set"),
        ("images=val", "images must be 'train' or 'test' or 'all', got 'val'"),
        (f"figure={tmp_path / 'none' / 'such' / 'a.png'}", "no folder"),
        ("figure=a.docx", "must end in .png"),
        ("figure=3", "figure must be null or a text, got 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            mean_brightness(composed("mean_brightness", override))


# scripts/inspect_data.py


def test_inspection_of_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "made" / "points.png"
    inspect_data(composed("inspect_data", "data.num_samples=100", "batching=stochastic", f"figure={figure}"))
    printed = capsys.readouterr().out
    for text in ("fail", "pass", "(2,) torch.float32", "lectures attended", "updates per epoch │ 70", "EpochOrder",
                 "GroupedBatches", "drop_last", "pin_memory", "num_workers", "InMemoryDataset"):  # fmt: skip
        assert text in printed, text
    assert Image.open(figure).width > 300


@pytest.mark.parametrize(
    ("batching", "updates"),
    [("full_batch", 1), ("mini_batch", math.ceil(1257 / 32)), ("stochastic", 1257)],
)
def test_inspection_of_images_with_every_batching(
    batching: str, updates: int, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_data(composed("inspect_data", "data=digits", f"batching={batching}", "figure=null"))
    printed = capsys.readouterr().out
    assert f"updates per epoch │ {updates:,}" in printed
    assert "(1, 8, 8) torch.uint8" in printed


def test_inspection_without_validation_data(capsys: pytest.CaptureFixture[str]) -> None:
    config = composed("inspect_data", "data.val_fraction=0", "figure=null")
    assert config_faults(config) == []
    inspect_data(config)
    assert "–" in capsys.readouterr().out  # the share of nothing


REGULARIZATIONS = sorted(path.stem for path in (CONF / "regularization").glob("*.yaml"))


@pytest.mark.parametrize("name", REGULARIZATIONS)
def test_every_regularization_composes_with_inspection(name: str) -> None:
    data = "passing" if name == "more_data" else "digits"
    assert config_faults(composed("inspect_data", f"data={data}", f"regularization={name}")) == []


def test_augmented_samples_are_those_that_training_is_served() -> None:
    data = build.data_module(composed("inspect_data", "data=digits", "regularization=augmentation"))
    figure = sample_figure(data)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes[:3]] == ["as stored", "in epoch 1", "in epoch 2"]
    batch = next(iter(data.train_dataloader()))
    data.trainer = SimpleNamespace(training=True, current_epoch=0)  # type: ignore[assignment]
    served = data.on_after_batch_transfer(batch, 0)[0].features * data.std + data.mean  # 0 to 1
    for row in range(4):
        stored, augmented = (
            np.asarray(figure.axes[8 * row + column].images[0].get_array(), dtype=np.float64) for column in (0, 1)
        )
        np.testing.assert_array_equal(stored, batch[0][row, 0].numpy())
        np.testing.assert_allclose(augmented / 255, served[row, 0].numpy(), atol=1e-6)
        assert not np.array_equal(stored, augmented)


def test_samples_without_augmentation_carry_their_class_names() -> None:
    data = build.data_module(composed("inspect_data", "data=digits", "data.train_size=30", "data.batch_size=8"))
    figure = sample_figure(data)
    assert figure is not None
    train = data.datasets["train"]
    order = data.train_dataloader().batch_sampler.sampler.order()  # type: ignore[union-attr]
    names = [data.source.class_names[label] for label in train.labels[train.indices[order]]]
    assert [axes.get_title() for axes in figure.axes] == [*names, "", ""]  # 30 samples in a grid of 32 places


def test_more_than_two_features_are_not_drawn() -> None:
    data = build.data_module(composed("inspect_data"))
    source = data.source
    wide = torch.cat([source.features, source.features], dim=1)
    object.__setattr__(source, "features", wide)
    assert sample_figure(data) is None


@pytest.mark.parametrize("script", ["predict", "inspect_data", "mean_brightness"])
def test_scripts_answer_without_torch(script: str) -> None:
    """`python -X importtime` names every module that was imported."""
    command = [sys.executable, "-X", "importtime", f"scripts/{script}.py", "--cfg", "job"]
    done = subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "figure:" in done.stdout or "output:" in done.stdout
    assert " torch\n" not in done.stderr
