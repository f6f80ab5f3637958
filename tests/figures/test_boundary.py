"""The decision boundary shows each probability where it belongs."""

import io

import matplotlib.image
import numpy as np
import pytest
import torch

from mlplab.figures.boundary import DecisionBoundary, mixed
from mlplab.figures.plane import Plane

PLANE = Plane((0.0, 4.0), (10.0, 12.0))


def boundary(classes):
    points = torch.tensor([[1.0, 11.0], [3.0, 11.5]])
    return DecisionBoundary(
        PLANE, samples={"training": (points, torch.tensor([0, 1])), "validation": (points[:1], torch.tensor([1]))},
        class_names=[f"class {label}" for label in range(classes)], axis_names=["width", "height"], dpi=60,
    )  # fmt: skip


def test_the_grid_covers_the_plane_row_by_row_from_the_bottom():
    assert PLANE.grid(3).tolist() == [
        [0, 10], [2, 10], [4, 10], [0, 11], [2, 11], [4, 11], [0, 12], [2, 12], [4, 12]
    ]  # fmt: skip


def test_the_plane_holds_all_samples_with_a_margin():
    plane = Plane.around(torch.tensor([[0.0, 5.0], [10.0, 5.0]]), margin=0.1)
    assert plane.x == (-1.0, 11.0)
    assert plane.y[0] < 5.0 < plane.y[1]


def test_probabilities_of_the_second_class_are_the_colour():
    second = torch.tensor([0.1, 0.2, 0.3, 0.4])  # bottom left, bottom right, top left, top right
    figure = boundary(2).draw(torch.stack([1 - second, second], dim=1), title="now")
    (image,) = figure.axes[0].get_images()
    assert np.allclose(image.get_array(), [[0.1, 0.2], [0.3, 0.4]])
    assert (image.origin, list(image.get_extent())) == ("lower", [0, 4, 10, 12])
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert figure.axes[1].get_ylabel() == "probability of “class 1”"
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("width", "height")


def test_several_classes_are_mixed_by_their_probabilities():
    sure, unsure = mixed(np.eye(3)), mixed(np.full((1, 3), 1 / 3))
    assert np.allclose(unsure, sure.mean(axis=0))
    (image,) = boundary(3).draw(torch.eye(3).repeat(3, 1), title="now").axes[0].get_images()
    assert np.allclose(image.get_array(), np.broadcast_to(sure, (3, 3, 3)))


def test_samples_stand_at_their_places_by_split():
    train, val = boundary(2).axes.collections
    assert (train.get_label(), val.get_label()) == ("training", "validation")
    assert train.get_offsets().tolist() == [[1.0, 11.0], [3.0, 11.5]]
    assert val.get_offsets().tolist() == [[1.0, 11.0]]


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_frame_is_what_the_whole_figure_would_be(classes):
    """The fast way of drawing against matplotlib's own, for the second frame too."""
    torch.manual_seed(0)
    quick = boundary(classes)
    for name in ("epoch 1", "epoch 20"):
        probabilities = torch.rand(16, classes).softmax(dim=1)
        whole, file = boundary(classes), io.BytesIO()
        whole.figure.savefig(file, format="png")  # places everything, as the first frame does, without a title
        whole.draw(probabilities, title="epoch 1")
        file = io.BytesIO()
        whole.figure.savefig(file, format="png")
        expected, shown = pixels(file.getvalue()), pixels(quick.frame(probabilities, title="epoch 1"))
        assert shown.shape == expected.shape
        assert (np.abs(shown - expected).max(axis=2) > 0.1).mean() < 0.01, name
