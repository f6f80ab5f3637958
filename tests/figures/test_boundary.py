"""The decision boundary shows each probability where it belongs."""

from types import SimpleNamespace

import numpy as np
import torch

from mlplab.callbacks.figures import plane
from mlplab.figures.boundary import decision_boundary, pale

FEATURES = torch.tensor([[0.0, 10.0], [4.0, 12.0], [1.0, 11.0]])


def boundary(probabilities):
    classes = probabilities.shape[1]
    names = [f"class {label}" for label in range(classes)]
    source = SimpleNamespace(features=FEATURES, labels=torch.tensor([0, 1, 1]), class_names=names,
                             feature_names=("width", "height"))  # fmt: skip
    datasets = {
        "train": SimpleNamespace(indices=torch.tensor([0, 2])),
        "val": SimpleNamespace(indices=torch.tensor([1])),
    }
    data = SimpleNamespace(source=source, datasets=datasets, num_classes=classes, updates_per_epoch=4)
    return decision_boundary(plane(FEATURES, 2), probabilities, data, updates=10)


def test_the_grid_covers_the_plane_row_by_row_from_the_bottom():
    points = plane(FEATURES, 3)
    assert torch.allclose(points[:3, 0], torch.tensor([-0.2, 2.0, 4.2]))
    assert torch.allclose(points[::3, 1], torch.tensor([9.9, 11.0, 12.1]))
    assert points[3, 0] == points[0, 0]
    equal = plane(torch.tensor([[0.0, 5.0], [10.0, 5.0]]), 2)
    assert equal[0, 1] < 5.0 < equal[-1, 1]


def test_probabilities_of_the_second_class_are_the_colour():
    second = torch.tensor([0.1, 0.2, 0.3, 0.4])  # bottom left, bottom right, top left, top right
    axes, bar = boundary(torch.stack([1 - second, second], dim=1)).axes
    (image,) = axes.get_images()
    assert np.allclose(image.get_array(), [[0.1, 0.2], [0.3, 0.4]])
    assert image.origin == "lower"
    assert np.allclose([axes.get_xlim(), axes.get_ylim()], [[-0.2, 4.2], [9.9, 12.1]])
    assert np.allclose(image.get_extent(), [-2.4, 6.4, 8.8, 13.2])  # the middle of each of the 2 × 2 pixels is a point
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert bar.get_ylabel() == "probability of “class 1”"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width", "height")
    assert axes.get_title() == "Decision boundary after epoch 2.5"


def test_several_classes_are_mixed_by_their_probabilities():
    sure = torch.eye(3)
    (image,) = boundary(torch.cat([sure, torch.full((1, 3), 1 / 3)])).axes[0].get_images()
    colours = np.asarray(image.get_array()).reshape(4, 3)
    assert np.allclose(colours[3], colours[:3].mean(axis=0))
    assert np.allclose(pale(np.ones(3)), 1)


def test_samples_stand_at_their_places_by_split():
    axes = boundary(torch.full((4, 2), 0.5)).axes[0]
    train, val = (drawn for drawn in axes.collections if len(drawn.get_offsets()))
    assert train.get_offsets().tolist() == [[0.0, 10.0], [1.0, 11.0]]
    assert val.get_offsets().tolist() == [[4.0, 12.0]]
    assert [drawn.get_label() for drawn in axes.collections if not drawn.get_label().startswith("_")] == [
        "training", "validation", "class 0", "class 1"
    ]  # fmt: skip
