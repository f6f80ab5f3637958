"""The curves are those of the rows they are drawn from."""

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mlplab.figures.curves import learning_curves, optimization
from mlplab.figures.style import STYLE

COLUMNS = {
    "epoch": [1.0, 2.0, 3.0],
    "train/loss": [0.9, 0.5, 0.3],
    "val/loss": [1.0, None, 0.8],
    "train/acc": [0.5, 0.7, 0.9],
    "val/acc": [0.4, None, 0.6],
    "lr": [0.1, 0.1, 0.01],
    "grad/norm": [2.0, 1.0, 1.5],
    "grad/noise": [0.5, None, None],
    "weights/l2_norm": [3.0, 3.1, 3.2],
}
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


@pytest.mark.parametrize(("panel", "name"), [(0, "loss"), (1, "acc")])
def test_training_and_validation_lie_over_each_other(panel, name):
    axes = learning_curves(ROWS).axes[panel]
    assert lines(axes)["training"] == (COLUMNS["epoch"], COLUMNS[f"train/{name}"])
    first, last = COLUMNS[f"val/{name}"][0], COLUMNS[f"val/{name}"][2]
    assert lines(axes)["validation"] == ([1.0, 3.0], [first, last])
    assert axes.get_xlabel() == "epoch"


def test_the_gap_is_shaded_where_both_are_known():
    (gap,) = learning_curves(ROWS).axes[0].collections
    assert gap.get_label() == "gap"
    corners = {(float(x), float(y)) for x, y in gap.get_paths()[0].vertices}
    assert corners == {(1.0, 0.9), (1.0, 1.0), (3.0, 0.3), (3.0, 0.8)}


def test_best_and_last_epoch_are_marked():
    for axes in learning_curves(ROWS, best_epoch=2.0, stopped_early=True).axes:
        assert lines(axes)["best, epoch 2"][0] == [2.0, 2.0]
        assert lines(axes)["stopped early, epoch 3"][0] == [3.0, 3.0]
    assert set(lines(learning_curves(ROWS).axes[0])) == {"training", "validation"}


def test_optimization_has_a_panel_for_each_quantity():
    drawn = [next(iter(lines(axes).values()))[1] for axes in optimization(ROWS).axes]
    assert drawn == [[0.1, 0.1, 0.01], [2.0, 1.0, 1.5], [0.5], [3.0, 3.1, 3.2]]


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.02, 0.0125, 0.001, 3e-5])
def test_the_name_of_the_learning_rate_is_within_the_picture(rate):
    with matplotlib.rc_context(STYLE):
        figure = optimization([{"epoch": float(epoch), "lr": rate} for epoch in (1, 2)])
        FigureCanvasAgg(figure).draw()
    assert figure.axes[0].yaxis.label.get_window_extent().x0 >= 0
