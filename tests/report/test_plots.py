"""Curves of several runs are brought onto one grid; figures show what they are given."""

import numpy as np
import pytest

from mlplab.figures.style import as_svg
from mlplab.report.frames import grouped
from mlplab.report.plots import curve, curves, scores


@pytest.fixture
def group(runs):
    def made(*histories):
        return grouped(*runs(*(({}, {"seed": i, "history": rows}) for i, rows in enumerate(histories))))[0]

    return made


def test_a_curve_is_the_mean_up_to_where_the_shortest_run_ends(group, history):
    x, (mean, low, high, _) = curve(group(history(0.2, 0.4, 0.6, 0.8), history(0.4, 0.6, 0.8)), "updates", "val/acc")
    assert (x[0], x[-1]) == (2, 6)
    assert np.allclose(mean, 0.3 + 0.1 * (x - 2), atol=1e-12)
    assert (low.max(), high.min()) == (0, 1)  # half of it would be 1.27: t(0.975, 1) × the standard error 0.1


def test_runs_validated_at_different_moments_are_interpolated(group, history):
    x, (mean, *_) = curve(group(history(0.0, 1.0, updates=4), history(0.0, 0.5, 1.0, updates=3)), "updates", "val/acc")
    assert (x[0], x[-1]) == (4, 8)
    assert mean[-1] == pytest.approx((1.0 + np.interp(8, [3, 6, 9], [0, 0.5, 1])) / 2)


def test_runs_of_one_validation_each_at_different_moments_are_one_point(group, history):
    of_single_validations = group(history(0.2, updates=3), history(0.6, updates=4))
    x, (mean, *_) = curve(of_single_validations, "updates", "val/acc")
    assert (x.tolist(), mean.tolist()) == ([3.5], [pytest.approx(0.4)])
    assert len(curves([of_single_validations], ["val/acc"]).axes[0].lines) == 1


def test_figures_are_svg_with_an_alt_text_in_the_colours_of_the_page(group, history):
    made = group(history(0.2, 0.4), history(0.4, 0.6))
    for draw in (curves, scores):
        svg = as_svg(draw)([made], ["val/acc", "gap/acc"], alt='a "b" <c>')
        assert svg.startswith('<svg role="img" aria-label="a &#34;b&#34; &lt;c&gt;" ')
        assert "var(--ink)" in svg
        assert "var(--c0)" in svg
        assert "#0072b2" not in svg
        assert "<metadata>" not in svg


def test_legends_are_in_the_order_of_the_values(two_settings, history):
    pairs = {(size, rate): 0.4 for size in (128, 8, 16) for rate in (0.1, 0.01)}
    groups = two_settings("data.batch_size", "optimizer.lr", pairs, history=history(0.2, 0.4))
    drawn = curves(groups, ["val/acc"]), scores(groups, ["val/acc"], "data.batch_size", "optimizer.lr")
    legends = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn]
    assert legends[0] == [f"batch_size={size}, lr={rate}" for size in (8, 16, 128) for rate in (0.01, 0.1)]
    assert legends[1] == ["optimizer.lr = 0.01", "optimizer.lr = 0.1"]


def test_marks_of_several_lines_stay_beside_their_value(two_settings):
    values, lines = (0.85, 0.9, 0.95), (1, 2, 3, 4, 5)
    groups = two_settings("optimizer.momentum", "data.batch_size", {(x, y): 0.5 for x in values for y in lines})
    (axes,) = scores(groups, ["val/acc"], "optimizer.momentum", "data.batch_size").axes
    for container in axes.containers:
        assert np.allclose(container.lines[0].get_xdata(), values, atol=0.005)
    assert len({container.lines[0].get_xdata()[0] for container in axes.containers}) == len(lines)


def test_a_loss_that_ranges_widely_is_drawn_logarithmically(group, history):
    wide = [(*row[:7], 10.0 ** (3 * index), *row[8:]) for index, row in enumerate(history(0.5, 0.5, 0.5))]
    assert ">1M<" in as_svg(curves)([group(wide)], ["val/loss"], alt="loss")
