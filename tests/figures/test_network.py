"""Figures of layers show the numbers they are given."""

import numpy as np
import pytest
import torch

from mlplab.figures.network import MOST_UNITS, first_layer, layers, mosaic, weight_histograms


def test_each_quantity_has_a_panel_and_each_layer_a_curve():
    rows = [
        {"epoch": 1.0, "updates": 4, "weight_norm/a": 1.0, "weight_norm/b": 2.0, "dead_relus/relu_1": 0.5},
        {"epoch": 2.0, "updates": 8, "weight_norm/a": 1.5, "weight_norm/b": 2.5, "dead_relus/relu_1": 0.25},
    ]
    norms, dead = layers(rows).axes
    curves = {line.get_label(): list(line.get_ydata()) for line in norms.get_lines()}
    assert curves == {"a": [1.0, 1.5], "b": [2.0, 2.5]}
    assert [list(line.get_ydata()) for line in dead.get_lines()] == [[0.5, 0.25]]


def test_histograms_count_every_weight():
    figure = weight_histograms({"first": torch.randn(20, 10), "second": torch.randn(3, 20)})
    assert [axes.get_title() for axes in figure.axes] == ["first", "second"]
    assert [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes] == [200, 60]


def test_a_mosaic_puts_images_side_by_side():
    tiles = mosaic(torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 2, 2), columns=2)
    nan = np.nan
    expected = [[0, 0, nan, 1, 1, nan], [0, 0, nan, 1, 1, nan], [nan] * 6, [2, 2] + [nan] * 4, [2, 2] + [nan] * 4]
    assert np.array_equal(tiles[0, :5], expected, equal_nan=True)


def test_the_first_layer_is_scaled_unit_by_unit():
    weights = torch.tensor([[1.0, -2.0, 0.0, 0.5], [10.0, 0.0, 0.0, 20.0]])
    (image,) = first_layer(weights, shape=(1, 2, 2), unit_names=["left", "right"]).axes[0].get_images()
    shown = np.asarray(image.get_array())
    assert np.allclose(shown[:2, :2], [[0.5, -1.0], [0.0, 0.25]])
    assert np.allclose(shown[:2, 3:5], [[0.5, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_of_many_units_the_largest_are_shown(channels):
    weights = torch.zeros(MOST_UNITS + 10, channels * 4)
    weights[5:] = torch.arange(1.0, MOST_UNITS + 6)[:, None]
    figure = first_layer(weights, shape=(channels, 2, 2))
    assert f"{MOST_UNITS} of {MOST_UNITS + 10} units" in figure.get_suptitle()
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert not (shown == (0 if channels == 1 else 0.5)).any()  # none of the units without weights
