"""The data sets: what their points and labels are; the official archive formats, made here; nothing is downloaded."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, MNIST

from mlplab.data.sources import MNIST_URL, Source, cifar10, digits, mnist, moons, passing, spirals
from mlplab.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Every attempt to download fails as on a machine without a network."""

    def unreachable(*_, **__):
        raise URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


GENERATED = {
    "passing": lambda **options: passing(**{"num_samples": 1000, "label_noise": 0.0, "seed": 0} | options),
    "moons": lambda **options: moons(**{"num_samples": 1000, "noise": 0.0, "label_noise": 0.0, "seed": 0} | options),
    "spirals": lambda **options: spirals(
        **{"num_samples": 1000, "num_classes": 5, "turns": 0.75, "noise": 0.0, "label_noise": 0.0, "seed": 0} | options
    ),
}


@pytest.mark.parametrize("make", GENERATED.values(), ids=GENERATED)
def test_generated_sets_are_a_function_of_their_seed_alone(make):
    first = make(label_noise=0.2, seed=4)
    np.random.seed(1)
    torch.manual_seed(1)
    again, other = make(label_noise=0.2, seed=4), make(label_noise=0.2, seed=5)
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.features, other.features) or not torch.equal(first.labels, other.labels)


@pytest.mark.parametrize("make", GENERATED.values(), ids=GENERATED)
@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_label_noise_is_the_fraction_of_labels_that_are_another_equally_often(make, fraction):
    clean, noisy = make(num_samples=5000), make(num_samples=5000, label_noise=fraction)
    assert torch.equal(clean.features, noisy.features)
    num_classes = len(clean.class_names)
    shifts = torch.bincount((noisy.labels - clean.labels) % num_classes, minlength=num_classes) / 5000
    assert shifts[0].item() == pytest.approx(1 - fraction, abs=0.025)
    assert (shifts[1:] - fraction / (num_classes - 1)).abs().max() < 0.025


def test_passing_means_that_features_even_on_the_unit_square_add_up_to_more_than_one():
    source = GENERATED["passing"](num_samples=20_000)
    assert torch.equal(source.labels, (source.features.double().sum(dim=1) > 1).long())
    assert source.class_names == ("fail", "pass")
    assert ((source.features >= 0) & (source.features <= 1)).all()
    cells = torch.bincount((source.features * 4).long().clamp(max=3) @ torch.tensor([4, 1]))
    assert (cells / 20_000 - 1 / 16).abs().max() < 0.01


def test_moons_are_two_half_circles():
    source = GENERATED["moons"]()
    upper, lower = (source.features[source.labels == label] for label in (0, 1))
    torch.testing.assert_close(upper.norm(dim=1), torch.ones(500))
    torch.testing.assert_close((lower - torch.tensor([1.0, 0.5])).norm(dim=1), torch.ones(500))
    assert upper[:, 1].min() > -1e-6
    assert lower[:, 1].max() < 0.5 + 1e-6
    assert source.class_names == ("upper moon", "lower moon")


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_noise_is_the_standard_deviation_added_to_the_points(name):
    spread = GENERATED[name](num_samples=5000, noise=0.1)
    if name == "moons":
        centre = torch.where(spread.labels[:, None] == 0, torch.zeros(2), torch.tensor([1.0, 0.5]))
        away = (spread.features - centre).norm(dim=1) - 1
    else:
        away = (spread.features - GENERATED[name](num_samples=5000).features)[:, 0]
    assert away.std().item() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_spirals_have_one_arm_for_each_class(num_classes):
    source = GENERATED["spirals"](num_samples=7 * 60, num_classes=num_classes, turns=1.25)
    assert torch.bincount(source.labels).tolist() == [420 // num_classes] * num_classes
    assert len(source.class_names) == num_classes
    radius = source.features.norm(dim=1)
    assert radius.max() <= 1
    assert radius.square().mean().item() == pytest.approx(0.5, abs=0.05)  # even density over the disc
    angle = torch.atan2(source.features[:, 1], source.features[:, 0])
    turned = (angle / (2 * torch.pi) - 1.25 * radius - source.labels / num_classes) % 1
    assert torch.minimum(turned, 1 - turned).max() < 1e-3


def test_digits_are_scikit_learns_scaled_to_bytes():
    source = digits()
    assert source.features.shape == (1797, 1, 8, 8)
    assert (source.features.dtype, source.labels.dtype) == (torch.uint8, torch.int64)
    assert (source.features.min(), source.features.max()) == (0, 255)
    reference = load_digits()
    levels = source.features[:, 0].double() * 16 / 255
    assert torch.equal(levels.round(), torch.from_numpy(reference.images))
    assert source.labels.tolist() == reference.target.tolist()
    assert source.class_names == tuple("0123456789")
    assert source.is_images


# A source of someone else's


def made(**options):
    given = {"features": torch.rand(6, 2), "labels": torch.tensor([0, 1, 2] * 2), "class_names": ("a", "b", "c")}
    return Source(**given | options)


def with_value(tensor, place, value):
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


POINTS, CLASSES = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
WRONG = {
    "more labels than names": ({"labels": with_value(CLASSES, 4, 3)}, "labels, row 4.*from 0 to 2.*got 3"),
    "a negative label": ({"labels": with_value(CLASSES, 4, -1)}, "labels, row 4.*got -1"),
    "half a label": ({"labels": with_value(CLASSES.float(), 3, 0.5)}, r"labels, row 3.*got 0\.5"),
    "words": ({"labels": np.array(list("abcabc"))}, "labels must be real numbers, got <U1"),
    "one-hot": ({"labels": torch.eye(3).repeat(2, 1)}, r"class numbers \(n,\), got \(6, 3\)"),
    "nan": ({"features": with_value(POINTS, (4, 1), np.nan), "feature_names": ("x", "y")},
            r"features, row 4, column 1 \(y\), counted from 0: must be a finite number, got nan$"),
    "inf": ({"features": with_value(POINTS, 5, np.inf)}, "features, row 5, column 0,.*got inf, and 1 more"),
    "too large": ({"features": POINTS.double().numpy() * 1e38}, r"features, row 2, column 0,.*got 4e\+38"),
    "test label": ({"test_features": POINTS, "test_labels": CLASSES + 1}, "test_labels, row 2"),
    "half a test": ({"test_features": POINTS}, "together"),
    "lengths": ({"labels": CLASSES[:4]}, "features has 6 rows, but labels has 4"),
    "other columns": ({"test_features": POINTS[:, :1], "test_labels": CLASSES}, r"must be \(2,\)"),
    "empty": ({"features": POINTS[:0], "labels": CLASSES[:0]}, "features must hold at least one"),
    "one class": ({"class_names": ("a",), "labels": CLASSES * 0}, "at least two"),
    "a class twice": ({"class_names": ("a", "b", "a")}, "'a' more than once"),
    "no names": ({"class_names": None}, "class_names must be texts, got None"),
    "names": ({"feature_names": ("x",)}, "must be 2, one for each column, got 1"),
    "grey images": ({"features": torch.rand(6, 4, 4)}, "got .6, 4, 4.*None"),
    "channels last": ({"features": torch.zeros(6, 8, 8, 3).byte()}, "channels come first"),
    "scaled pixels": ({"features": torch.rand(6, 1, 4, 4)}, "whole numbers from 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_source_is_said_when_it_is_made(name):
    options, message = WRONG[name]
    with pytest.raises(ConfigError, match=message) as error:
        made(**options)
    assert all("\n" not in fault and fault.startswith("data: ") for fault in error.value.faults)


@pytest.mark.parametrize(("offset", "warned"), [(0.0, False), (1e3, False), (1e9, True)])
def test_numbers_that_float32_hardly_tells_apart_are_named(offset, warned, caplog):
    made(features=POINTS.double() + offset, feature_names=("time", "id"))
    assert any("data: time, from " in message for message in caplog.messages) is warned


@pytest.mark.parametrize("dtype", ["float64", ">f8", "float32", "int32", "uint16", "uint8"])
def test_arrays_of_any_type_are_taken_as_what_they_mean(dtype):
    points, classes = POINTS.numpy().astype(dtype)[::-1], CLASSES.numpy().astype(dtype)
    source = made(features=points, labels=classes, test_features=points, test_labels=classes, class_names=list("abc"))
    for features, labels in ((source.features, source.labels), (source.test_features, source.test_labels)):
        assert (features.dtype, labels.dtype, source.class_names) == (torch.float32, torch.int64, ("a", "b", "c"))
        assert torch.equal(features, POINTS.flip(0))
        assert torch.equal(labels, CLASSES)
    images = np.full((6, 3, 4, 4), 200, dtype=dtype)
    assert torch.equal(made(features=images).features, torch.full((6, 3, 4, 4), 200, dtype=torch.uint8))


# CIFAR-10, in the official format

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def md5(content):
    return hashlib.md5(content).hexdigest()


def cifar10_files():
    """Six batches of three images, and the names, as the official archive has them: pickled dicts of rows."""
    generator, files = np.random.default_rng(0), {}
    for batch in BATCHES:
        rows = generator.integers(0, 256, (3, 3072), dtype=np.uint8)
        entry = {"batch_label": batch, "labels": generator.integers(0, 10, 3).tolist(), "data": rows}
        files[batch] = pickle.dumps(entry)
    files["batches.meta"] = pickle.dumps({"label_names": NAMES, "num_vis": 3072})
    return files


def write_archive(root, files):
    root.mkdir(exist_ok=True)
    with tarfile.open(root / CIFAR10.filename, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return (root / CIFAR10.filename).read_bytes()


def write_folder(root, files):
    (root / CIFAR10.base_folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / CIFAR10.base_folder / name).write_bytes(content)


def expect(monkeypatch, files, archive=b""):
    """Make the tiny files the official ones, by their MD5."""
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(files[name])] for name in BATCHES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [[name, md5(files[name])] for name in BATCHES[5:]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(files["batches.meta"])})


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar10_is_read_from_the_official_format(tmp_path, monkeypatch, unpacked):
    files = cifar10_files()
    if unpacked:
        expect(monkeypatch, files)
        write_folder(tmp_path, files)
    else:
        expect(monkeypatch, files, write_archive(tmp_path, files))
    source = cifar10(root=str(tmp_path))

    entries = [pickle.loads(files[name]) for name in BATCHES]
    rows = np.concatenate([entry["data"] for entry in entries])  # red plane, green plane, blue plane; row by row
    labels = [label for entry in entries for label in entry["labels"]]
    images = torch.cat([source.features, source.test_features])
    assert (images.shape, images.dtype) == ((18, 3, 32, 32), torch.uint8)
    assert (len(source.features), len(source.test_features)) == (15, 3)
    assert torch.equal(images.flatten(1), torch.from_numpy(rows))
    assert source.features.is_contiguous()
    assert torch.cat([source.labels, source.test_labels]).tolist() == labels
    assert source.labels.dtype == torch.int64
    assert source.class_names == tuple(NAMES)


def assert_says_where_to_get_it(read, root):
    """One line that names the data set, what to download, and where to put it."""
    with pytest.raises(ConfigError) as error:
        read(root=str(root))
    (line,) = error.value.faults
    parts = {
        "cifar10": ("data=cifar10", CIFAR10.url, CIFAR10.tgz_md5, str(root / "cifar-10-python.tar.gz")),
        "mnist": ("data=mnist", MNIST_URL, str(root / "MNIST" / "raw")),
    }
    assert all(part in line for part in parts[read.__name__])
    assert "\n" not in line
    return line


@pytest.mark.parametrize("read", [cifar10, mnist])
def test_what_cannot_be_downloaded_is_named_and_leaves_no_folder_behind(read, tmp_path):
    assert MNIST_URL in MNIST.mirrors
    assert "no network in tests" in assert_says_where_to_get_it(read, tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    (tmp_path / "files" / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "files" / "MNIST" / "raw" / "notes.txt").touch()
    for name in ("old", "files"):
        assert_says_where_to_get_it(read, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["MNIST", "files", "notes.txt", "old", "raw"]


@pytest.mark.parametrize("write", [write_archive, write_folder])
@pytest.mark.parametrize("replaced", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_wrong_file_is_refused_before_it_is_unpickled(tmp_path, monkeypatch, replaced, write, bomb):
    files, exploded = cifar10_files(), tmp_path / "exploded"
    expect(monkeypatch, files, write_archive(tmp_path / "right", files))
    write(tmp_path / "wrong", files | {replaced: pickle.dumps(bomb(exploded))})
    assert_says_where_to_get_it(cifar10, tmp_path / "wrong")
    assert not exploded.exists()


# MNIST, in the official format

MNIST_FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array):
    """The idx format: two zero bytes, the type (8: unsigned byte), the number of dimensions, sizes, values."""
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_arrays():
    generator = np.random.default_rng(0)
    shapes = [(7, 28, 28), (7,), (4, 28, 28), (4,)]
    return [generator.integers(0, 10 if len(shape) == 1 else 256, shape, dtype=np.uint8) for shape in shapes]


def write_mnist(root, monkeypatch, arrays):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    resources = []
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        content = gzip.compress(idx(array))
        resources.append((f"{name}.gz", md5(content)))
        (raw / f"{name}.gz").write_bytes(content)
    monkeypatch.setattr(MNIST, "resources", resources)
    return raw


def test_mnist_is_read_from_the_official_format(tmp_path, monkeypatch):
    arrays = mnist_arrays()
    write_mnist(tmp_path, monkeypatch, arrays)
    for _ in range(2):
        source = mnist(root=str(tmp_path))
        assert (source.features.shape, source.test_features.shape) == ((7, 1, 28, 28), (4, 1, 28, 28))
        assert source.features.dtype == torch.uint8
        found = (source.features[:, 0], source.labels, source.test_features[:, 0], source.test_labels)
        for tensor, array in zip(found, arrays, strict=True):
            assert torch.equal(tensor, torch.from_numpy(array).to(tensor.dtype))
        assert source.labels.dtype == torch.int64
        assert source.class_names == tuple("0123456789")


def test_unpacked_mnist_files_are_not_read_since_they_have_no_official_digest(tmp_path, monkeypatch):
    arrays = mnist_arrays()
    raw = write_mnist(tmp_path, monkeypatch, arrays)
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        (raw / name).write_bytes(idx(255 - array))
    assert torch.equal(mnist(root=str(tmp_path)).features[:, 0], torch.from_numpy(arrays[0]))
    for archive in raw.glob("*.gz"):
        archive.unlink()
    assert_says_where_to_get_it(mnist, tmp_path)


# Single flipped bits and torn ends


def damaged(content, generator):
    """The content with one bit flipped, or cut off somewhere."""
    place = int(generator.integers(len(content)))
    if generator.random() < 0.25:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << int(generator.integers(8))]) + content[place + 1 :]


def cifar10_root(root, monkeypatch):
    files = cifar10_files()
    expect(monkeypatch, files)
    write_folder(root, files)
    return [root / CIFAR10.base_folder / name for name in files]


def cifar10_archive(root, monkeypatch):
    files = cifar10_files()
    expect(monkeypatch, files, write_archive(root, files))
    return [root / CIFAR10.filename]


def mnist_root(root, monkeypatch):
    return list(write_mnist(root, monkeypatch, mnist_arrays()).iterdir())


OFFICIAL = {
    "cifar10 batches": (cifar10, cifar10_root),
    "cifar10 archive": (cifar10, cifar10_archive),
    "mnist": (mnist, mnist_root),
}


TIMES = {"cifar10 batches": 40, "cifar10 archive": 100, "mnist": 50}
DAMAGES = [
    *((name, 3) for name in OFFICIAL),
    *(pytest.param(*each, marks=pytest.mark.faults) for each in TIMES.items()),
]


@pytest.mark.parametrize(("name", "times"), DAMAGES)
def test_each_damaged_official_file_is_noticed(name, times, tmp_path, monkeypatch, record_property):
    (read, prepare), generator = OFFICIAL[name], np.random.default_rng(0)
    paths = prepare(tmp_path, monkeypatch)
    for path in paths:
        content = path.read_bytes()
        for _ in range(times):
            path.write_bytes(damaged(content, generator))
            assert_says_where_to_get_it(read, tmp_path)
            path.write_bytes(content)
    record_property("damaged_files", times * len(paths))


def test_a_right_archive_mends_a_wrong_file(tmp_path, monkeypatch):
    files = cifar10_files()
    expect(monkeypatch, files, write_archive(tmp_path, files))
    write_folder(tmp_path, files | {"data_batch_3": b"torn"})
    assert len(cifar10(root=str(tmp_path)).labels) == 15
