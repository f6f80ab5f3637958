"""Image folders: what is read, what is refused by name, and when the cache is used."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

from mlplab.data import image_folder as module
from mlplab.data.image_folder import MAX_NAMED, decode, image_folder
from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities:DeprecationWarning")

CLASSES = ("cat", "dog", "eel")


def picture(channels=3, height=6, width=5):
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.permute(1, 2, 0).squeeze(2).numpy()
    Image.fromarray(pixels).save(path, quality=95)
    return image


@pytest.fixture
def tree(tmp_path):
    """train/ with two images a class, test/ with one."""
    root = tmp_path / "pets"
    for split, num in (("train", 2), ("test", 1)):
        for name in CLASSES:
            for number in range(num):
                save(root / split / name / f"{number}.png", picture())
    return root


def read(root, **options):
    return image_folder(root=str(root), **{"size": None, "channels": None, "cache": False} | options)


def on_disk(root, split):
    """Images of a split, class by class, each decoded by itself."""
    images = [np.asarray(Image.open(path)) for path in sorted((root / split).glob("*/*"))]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def cache_files(root):
    return sorted(root.parent.glob(f"{root.name}.cache-*.pt"))


@pytest.fixture
def no_decoding(monkeypatch):
    """From here on, decoding is a fault."""

    def forbidden(*_, **__):
        raise AssertionError("decoded although there is a cache")

    return lambda: monkeypatch.setattr(module, "decode", forbidden)


def assert_same(one, two):
    for name in ("features", "labels", "test_features", "test_labels"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert one.class_names == two.class_names


def test_images_and_labels_follow_the_folders(tree):
    source = read(tree)
    assert source.class_names == CLASSES
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.test_labels.tolist() == [0, 1, 2]
    assert (source.features.dtype, source.labels.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(source.features, on_disk(tree, "train"))
    assert torch.equal(source.test_features, on_disk(tree, "test"))


def test_the_test_folder_may_be_missing(tree):
    shutil.rmtree(tree / "test")
    for cache in (True, True, False):
        source = read(tree, cache=cache)
        assert (source.test_features, source.test_labels) == (None, None)
        assert len(source.features) == 6


def test_png_and_jpeg_may_be_mixed_and_other_files_lie_about(tree):
    grey = torch.full((3, 6, 5), 128, dtype=torch.uint8)
    for name in ("3.jpg", "4.jpeg", "5.JPG", "6.PNG"):
        save(tree / "train" / "cat" / name, grey)
    (tree / "train" / "cat" / "notes.txt").write_text("not an image")
    (tree / "train" / ".hidden").mkdir()
    (tree / "train" / "readme.md").touch()
    source = read(tree)
    assert torch.bincount(source.labels).tolist() == [6, 2, 2]
    assert ((source.features[2:6].float() - 128).abs() <= 1).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_kept_unless_told(tmp_path, channels):
    images = [save(tmp_path / "train" / name / "0.png", picture(channels)) for name in CLASSES]
    assert torch.equal(read(tmp_path).features, torch.stack(images))
    assert torch.equal(read(tmp_path, channels=channels).features, torch.stack(images))


def test_channels_are_converted_on_request(tmp_path):
    grey = save(tmp_path / "train" / "a" / "0.png", picture(1))
    colour = save(tmp_path / "train" / "b" / "0.png", picture(3))
    with pytest.raises(ConfigError, match=r"data\.channels"):
        read(tmp_path)
    as_colour = read(tmp_path, channels=3).features
    assert torch.equal(as_colour, torch.stack([grey.expand(3, -1, -1), colour]))
    as_grey = read(tmp_path, channels=1).features
    assert torch.equal(as_grey[0], grey)
    luma = (colour.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0)
    assert (as_grey[1, 0].float() - luma).abs().max() <= 1
    opaque = read(tmp_path, channels=4).features
    assert opaque.shape == (2, 4, 6, 5)
    assert (opaque[:, 3] == 255).all()


def test_sixteen_bits_become_eight(tmp_path):
    levels = torch.tensor([[0, 255, 256, 65535], [32768, 1000, 40000, 511]])
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(levels.to(torch.int32).numpy().astype("uint16")).save(tmp_path / "train" / name / "0.png")
    assert torch.equal(read(tmp_path).features[0, 0], (levels // 256).to(torch.uint8))


@pytest.mark.parametrize(("size", "expected"), [(4, (4, 4)), ([3, 8], (3, 8)), ((9, 2), (9, 2))])
def test_images_are_resized_on_request(tree, size, expected):
    source = read(tree, size=size)
    assert source.features.shape == (6, 3, *expected)
    assert source.test_features.shape == (3, 3, *expected)
    assert torch.equal(source.features, resize(on_disk(tree, "train"), list(expected), antialias=True))


def test_images_of_different_sizes_are_refused_unless_resized(tree):
    save(tree / "train" / "dog" / "0.png", picture(3, 7, 9))
    with pytest.raises(ConfigError) as error:
        read(tree)
    (line,) = error.value.faults
    for part in (str(tree / "train" / "dog" / "0.png"), "(3, 7, 9)", "(3, 6, 5)", "data.size"):
        assert part in line
    assert read(tree, size=8).features.shape == (6, 3, 8, 8)


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize(
    "damaged",
    [lambda _: b"", lambda _: b"no image", lambda whole: whole[: len(whole) // 2], lambda whole: whole[:20] * 9],
    ids=["empty", "text", "truncated", "garbage inside"],
)
def test_an_image_that_cannot_be_decoded_is_named(tree, kind, damaged):
    path = tree / "train" / "dog" / f"bad{kind}"
    save(path, picture(3, 64, 64))
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(ConfigError) as error:
        read(tree, size=6)
    (line,) = error.value.faults
    assert line.startswith(f"{path}: cannot be decoded (")
    assert "\n" not in line


def test_many_faulty_images_are_counted(tree):
    for number in range(10):
        (tree / "train" / "dog" / f"bad{number}.png").write_bytes(b"nothing")
    with pytest.raises(ConfigError) as error:
        read(tree)
    assert len(error.value.faults) == MAX_NAMED + 1
    assert error.value.faults[-1] == f"… and {10 - MAX_NAMED} more such images"


def test_folders_that_do_not_fit_are_named(tree, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.root: no folder .*train; expected train/<class>/<images>"):
        read(tmp_path)
    (tmp_path / "train" / "only").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"at least two class folders, got \['only'\]"):
        read(tmp_path)
    save(tree / "test" / "fox" / "0.png", picture())
    with pytest.raises(ConfigError, match="classes that train/ lacks: fox"):
        read(tree)


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_class_folders_are_named(tree, split):
    for name in ("dog", "eel"):
        (tree / split / name / "0.png").unlink()
        (tree / split / name / "1.png").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=rf"no PNG or JPEG image in 2 class folder\(s\) of .*{split}: dog, eel"):
        read(tree)


# Cache


def test_each_choice_of_size_and_channels_has_its_own_cache(tree, no_decoding):
    choices = [{}, {"size": 4}, {"size": [4, 5]}, {"channels": 1}, {"size": 4, "channels": 1}]
    first = [read(tree, cache=True, **options) for options in choices]
    assert len(cache_files(tree)) == len(choices)
    no_decoding()
    for source, options in zip(first, choices, strict=True):
        assert_same(read(tree, cache=True, **options), source)


def rename(root, old, new):
    (root / old).rename(root / new)


CHANGES = {
    "change an image": lambda root: save(root / "train/cat/0.png", picture()),
    "add an image": lambda root: save(root / "train/dog/9.png", picture()),
    "remove an image": lambda root: (root / "train/dog/1.png").unlink(),
    "rename an image": lambda root: rename(root, "train/dog/1.png", "train/dog/9.png"),
    "move an image to another class": lambda root: rename(root, "train/dog/1.png", "train/cat/7.png"),
    "change a test image": lambda root: save(root / "test/cat/0.png", picture()),
    "rename a class": lambda root: [rename(root / split, "cat", "ant") for split in ("train", "test")],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_tree_is_decoded_again(tree, change):
    read(tree, cache=True)
    CHANGES[change](tree)
    assert_same(read(tree, cache=True), read(tree))
    assert len(cache_files(tree)) == 1


DAMAGED = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"fingerprint": "x", "tensors": {}}, protocol=2)),
    "a list": lambda path: torch.save([], path),
    "another file": lambda path: write_checkpoint({"fingerprint": "x"}, path),
}


@pytest.mark.parametrize("times", [20, pytest.param(300, marks=pytest.mark.faults)])
def test_each_flipped_bit_and_torn_end_of_the_cache_is_noticed(tree, caplog, record_property, times):
    first = read(tree, cache=True)
    (path,) = cache_files(tree)
    content, generator = path.read_bytes(), np.random.default_rng(0)
    for number in range(times):
        place = int(generator.integers(len(content))) if number else len(content) - 1
        flipped = bytes([content[place] ^ 1 << int(generator.integers(8))])
        path.write_bytes(content[:place] + (b"" if number % 4 == 1 else flipped + content[place + 1 :]))
        caplog.clear()
        assert_same(read(tree, cache=True), first)
        (warning,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
        assert str(path) in warning
        assert "decoding the images again" in warning
    record_property("damaged_files", times)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_cache_is_made_anew(tree, no_decoding, damage):
    first = read(tree, cache=True)
    DAMAGED[damage](cache_files(tree)[0])
    assert_same(read(tree, cache=True), first)
    no_decoding()
    assert_same(read(tree, cache=True), first)


@pytest.mark.parametrize(
    "images",
    ["text", [], torch.zeros(9, 3, 6, 5), torch.zeros(8, 3, 6, 5).byte(), torch.zeros(9, 90).byte()],
    ids=str,
)
def test_a_forged_cache_with_a_right_digest_changes_nothing(tree, images):
    first = read(tree, cache=True)
    content = read_checkpoint(cache_files(tree)[0])
    write_checkpoint(content | {"images": images}, cache_files(tree)[0])
    assert_same(read(tree, cache=True), first)


def test_an_image_that_vanishes_before_it_is_decoded_is_named(tree, monkeypatch):
    path = tree / "train" / "dog" / "1.png"
    monkeypatch.setattr(module, "decode", lambda paths, **options: path.unlink() or decode(paths, **options))
    with pytest.raises(ConfigError) as error:
        read(tree, cache=True)
    (line,) = error.value.faults
    assert line.startswith(f"{path}: cannot be decoded (")
    assert "No such file" in line
    assert cache_files(tree) == []


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, write_checkpoint], ids=["bare", "with a right digest"])
def test_a_cache_cannot_run_code(tree, tmp_path, save):
    first = read(tree, cache=True)
    save({"fingerprint": "x", "tensors": Bomb(tmp_path / "exploded")}, cache_files(tree)[0])
    assert_same(read(tree, cache=True), first)
    assert not (tmp_path / "exploded").exists()


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tree, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(torch, "save", refuse)
    assert_same(read(tree, cache=True), read(tree))
    assert sorted(path.name for path in tree.parent.iterdir()) == ["pets"]


def test_a_moved_tree_takes_its_cache_along(tree, no_decoding):
    first = read(tree, cache=True)
    parent = tree.parent.rename(tree.parent.with_name(f"{tree.parent.name}-moved"))
    no_decoding()
    assert_same(read(parent / "pets", cache=True), first)
