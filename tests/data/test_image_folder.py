"""Image folders: what is read, what is refused by name, and when the cache is used."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

from mlplab.data import image_folder as module
from mlplab.data.image_folder import EXTENSIONS, decode, image_folder
from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint, write_checkpoint

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


def test_extensions_may_be_mixed_and_subfolders_are_read(tree):
    grey = torch.full((3, 6, 5), 128, dtype=torch.uint8)
    for number, extension in enumerate(EXTENSIONS):
        save(tree / "train" / "cat" / f"deep.er/{number}{extension if number % 2 else extension.upper()}", grey)
    images = read(tree).features
    assert ((images[2 : 2 + len(EXTENSIONS)].float() - 128).abs() <= 1).all()
    assert len(images) == 6 + len(EXTENSIONS)


def test_what_is_left_out_is_counted_and_named_and_what_is_hidden_is_not_there(tree, caplog):
    read(tree)
    assert caplog.text == ""
    first = read(tree).features
    for name in (
        "train/cat/._0.png",
        "train/cat/.ipynb_checkpoints/0.png",
        "train/.hidden/0.png",
        "test/cat/.DS_Store",
    ):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"no image")
    (tree / "train" / "cat" / "loop").symlink_to(tree / "train")
    assert torch.equal(read(tree).features, first)
    assert caplog.text == ""
    for name in ("train/cat/Thumbs.db", "test/dog/b.heic", "train/0.png", "val/cat/0.png", "train/dog/notes.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    assert torch.equal(read(tree).features, first)
    (entry,) = caplog.messages
    assert entry.startswith(f"{tree}: 5 left out, no images by name or place: train/cat/Thumbs.db, train/")
    assert ".png .jpg" in entry


LEVELS = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8
COLOURS = np.stack([LEVELS, 255 - LEVELS, LEVELS // 2], axis=2)
OPACITY = 255 - LEVELS[..., None]
RED, BLUE = [200, 40, 30], [30, 40, 200]
TWO = np.array([RED, BLUE])[np.arange(30).reshape(6, 5) % 2].astype(np.uint8)
FLAT = np.full_like(COLOURS, RED)
BITS = np.where(LEVELS > 100, 255, 0).astype(np.uint8)


def palette(transparent=None):
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5) % 2, mode="P")
    image.putpalette([*RED, *BLUE])
    return image, {} if transparent is None else {"transparency": transparent}


STORED = {  # name: (image and options of saving, as it is)
    "grey.png": ((Image.fromarray(LEVELS), {}), LEVELS[..., None]),
    "one bit.png": ((Image.fromarray(BITS).convert("1"), {}), BITS[..., None]),
    "16 bits.png": ((Image.fromarray(LEVELS.astype(np.uint16) * 256 + 255), {}), LEVELS[..., None]),
    "16 bits.tiff": ((Image.fromarray(LEVELS.astype(np.uint16) * 256), {}), LEVELS[..., None]),
    "grey and opacity.png": (
        (Image.fromarray(np.dstack([LEVELS, OPACITY])), {}), np.dstack([LEVELS, OPACITY])
    ),
    "colour.png": ((Image.fromarray(COLOURS), {}), COLOURS),
    "colour.webp": ((Image.fromarray(COLOURS), {"lossless": True}), COLOURS),
    "opacity.png": ((Image.fromarray(np.dstack([COLOURS, OPACITY])), {}), np.dstack([COLOURS, OPACITY])),
    "palette.png": (palette(), TWO),
    "palette.gif": (palette(), TWO),
    "transparent.png": (palette(1), np.dstack([TWO, np.where(TWO[..., :1] == 30, 0, 255)])),
    "transparent.gif": (palette(1), np.dstack([TWO, np.where(TWO[..., :1] == 30, 0, 255)])),
    "inks.tif": ((Image.fromarray(COLOURS).convert("CMYK"), {}), COLOURS),
    "inks.jpg": ((Image.fromarray(FLAT).convert("CMYK"), {}), FLAT),
    "colour.jpg": ((Image.fromarray(FLAT), {}), FLAT),
}  # fmt: skip


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("extension", ["", ".png"], ids=["named as it is", "named .png"])
@pytest.mark.parametrize("name", STORED)
def test_every_kind_of_image_is_its_colours_in_so_many_channels(tmp_path, name, extension, channels):
    (image, options), pixels = STORED[name]
    image.save(tmp_path / name, **options)
    path = (tmp_path / name).rename(tmp_path / f"{name}{extension}")
    few = pixels.shape[2] < 3
    colour = pixels[..., [0, 0, 0]] if few else pixels[..., :3]
    opacity = pixels[..., -1:] if pixels.shape[2] in (2, 4) else np.full((6, 5, 1), 255)
    luma = pixels[..., :1] if few else colour @ [[0.299], [0.587], [0.114]]
    parts = {None: [pixels], 1: [luma], 2: [luma, opacity], 3: [colour], 4: [colour, opacity]}
    expected = np.dstack(parts[channels])
    found = decode([path, path], channels=channels).permute(0, 2, 3, 1).int().numpy()
    assert found[0].shape == expected.shape
    assert abs(found[0] - expected).max() <= (3 if name.endswith(".jpg") else 1 if channels in (1, 2) else 0)
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_says(tmp_path, name, orientation):
    """The picture has another grey in each quarter: at the top 10 and 70, below 130 and 250."""
    picture = np.kron([[10, 70], [130, 250]], np.ones((16, 8))).astype(np.uint8)
    stored = {1: picture, 2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1], 5: picture.T,
              6: np.rot90(picture), 7: picture[::-1, ::-1].T, 8: np.rot90(picture, -1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    shown = decode([tmp_path / name])[0]
    assert shown.shape[1:] == (32, 16)
    assert abs(shown[0].int().numpy() - picture).max() <= 3


def test_different_channels_and_sizes_are_refused_unless_converted(tmp_path):
    grey = save(tmp_path / "train" / "a" / "0.png", picture(1))
    colour = save(tmp_path / "train" / "b" / "0.png", picture(3))
    with pytest.raises(ConfigError, match=r"data\.channels"):
        read(tmp_path)
    assert torch.equal(read(tmp_path, channels=3).features, torch.stack([grey.expand(3, -1, -1), colour]))
    save(tmp_path / "train" / "b" / "0.png", picture(1, 7, 9))
    with pytest.raises(ConfigError) as error:
        read(tmp_path)
    assert all(part in str(error.value) for part in ("0.png", "(1, 7, 9)", "(1, 6, 5)", "data.size"))
    assert read(tmp_path, size=8).features.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(("size", "expected"), [(4, (4, 4)), ([3, 8], (3, 8)), ((9, 2), (9, 2))])
def test_images_are_resized_on_request(tree, size, expected):
    source = read(tree, size=size)
    assert source.features.shape == (6, 3, *expected)
    assert source.test_features.shape == (3, 3, *expected)
    assert torch.equal(source.features, resize(on_disk(tree, "train"), list(expected), antialias=True))


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


def test_classes_may_be_in_the_root_itself(tree):
    whole = read(tree)
    source = read(tree / "train")
    assert torch.equal(source.features, whole.features)
    assert (source.class_names, source.test_features) == (CLASSES, None)


def test_folders_that_do_not_fit_are_named(tree, tmp_path):
    with pytest.raises(ConfigError, match=r"at least two class folders, got \['pets'\]"):
        read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"data\.root: no folder .*train; expected train/<class>/<images>"):
        read(tmp_path / "empty")
    (tmp_path / "train" / "only").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"at least two class folders, got \['only'\]"):
        read(tmp_path)
    save(tree / "test" / "fox" / "0.png", picture())
    with pytest.raises(ConfigError, match="classes that train/ lacks: fox"):
        read(tree)
    for name in ("dog", "eel"):
        for image in (tree / "train" / name).iterdir():
            image.unlink()
    with pytest.raises(ConfigError, match=r"no image in 2 class folder\(s\) of .*train: dog, eel"):
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


def test_a_cache_of_an_earlier_version_is_made_anew(tree, monkeypatch):
    monkeypatch.setattr(module, "DECODER", "1")
    monkeypatch.setattr(module, "decode", lambda paths, **options: 255 - decode(paths, **options))
    wrong = read(tree, cache=True)
    monkeypatch.undo()
    assert_same(read(tree, cache=True), read(tree))
    assert not torch.equal(wrong.features, read(tree).features)
    assert len(cache_files(tree)) == 1


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_tree_is_decoded_again(tree, change):
    read(tree, cache=True)
    CHANGES[change](tree)
    assert_same(read(tree, cache=True), read(tree))
    assert len(cache_files(tree)) == 1


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


@pytest.mark.parametrize(
    "images",
    ["text", [], torch.zeros(9, 3, 6, 5), torch.zeros(8, 3, 6, 5).byte(), torch.zeros(9, 90).byte()],
    ids=str,
)
def test_a_forged_cache_with_a_right_digest_is_made_anew(tree, images, no_decoding):
    first = read(tree, cache=True)
    content = read_checkpoint(cache_files(tree)[0])
    write_checkpoint(content | {"images": images}, cache_files(tree)[0])
    assert_same(read(tree, cache=True), first)
    no_decoding()
    assert_same(read(tree, cache=True), first)


@pytest.mark.parametrize("save", [torch.save, write_checkpoint], ids=["bare", "with a right digest"])
def test_a_cache_cannot_run_code(tree, tmp_path, save, bomb):
    first = read(tree, cache=True)
    save({"fingerprint": "x", "tensors": bomb(tmp_path / "exploded")}, cache_files(tree)[0])
    assert_same(read(tree, cache=True), first)
    assert not (tmp_path / "exploded").exists()


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tree, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(torch, "save", refuse)
    assert_same(read(tree, cache=True), read(tree))
    assert sorted(path.name for path in tree.parent.iterdir()) == ["pets"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\xff", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03"]
)
def test_damaged_exif_turns_nothing(tmp_path, exif):
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", quality=100, exif=exif)
    assert abs(decode([tmp_path / "a.jpg"])[0, 0].int().numpy() - LEVELS).max() <= 3


def test_a_moved_tree_takes_its_cache_along(tree, no_decoding):
    first = read(tree, cache=True)
    parent = tree.parent.rename(tree.parent.with_name(f"{tree.parent.name}-moved"))
    no_decoding()
    assert_same(read(parent / "pets", cache=True), first)
