"""Confusion, calibration and curves against numbers worked out by hand."""

import numpy as np
import torch

from mlplab.figures.classification import calibration, confusion, precision_recall

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 2, 2])
OF = "7 validation samples, at the end of training (epoch 2)"
PROBABILITIES = torch.nn.functional.one_hot(PREDICTED, 3) * 0.7 + 0.1  # the predicted class has 0.8


def test_confusion_is_in_shares_of_the_true_class():
    figure = confusion(PROBABILITIES, LABELS, class_names=["a", "b", "c"], of=OF)
    matrix, bars = figure.axes
    assert np.allclose(matrix.get_images()[0].get_array(), [[0.75, 0.25, 0], [0, 0.5, 0.5], [0, 0, 1]])
    assert {text.get_text() for text in matrix.texts} == {"3", "1", ""}
    assert [bar.get_width() for bar in bars.patches] == [0.75, 0.5, 1.0]
    assert "75.0%" in bars.get_title()
    without_b_and_c = confusion(PROBABILITIES[:4], LABELS[:4], class_names=["a", "b", "c"], of=OF).axes[1]
    assert "75.0%" in without_b_and_c.get_title()  # classes without samples leave gaps
    assert [str(bar.get_width()) for bar in without_b_and_c.patches] == ["0.75", "nan", "nan"]


def test_calibration_compares_confidence_with_accuracy():
    """Confidence 0.8 throughout, 5 of 7 right: one bin, which is off by 0.8 − 5/7."""
    diagram, histogram = calibration(PROBABILITIES, LABELS, of=OF).axes
    assert np.allclose(diagram.lines[1].get_xydata(), [[0.8, 5 / 7]])
    assert diagram.get_title() == f"Calibration error {0.8 - 5 / 7:.1%}"
    assert sum(bar.get_height() for bar in histogram.patches[:10]) == 5  # right; wrong ones are stacked on top
    accuracy, confidence = histogram.lines
    assert accuracy.get_linewidth() > 2 * confidence.get_linewidth()  # so that both are seen where they are equal
    assert [line.get_label() for line in histogram.lines] == ["accuracy 71.4%", "mean confidence 80.0%"]


def test_precision_recall_and_roc_by_hand():
    """Scores 0.9+ 0.8− 0.7+ 0.1−: average precision 5/6, area 3/4."""
    second, labels = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([1, 0, 1, 0])
    left, right = precision_recall(torch.stack([1 - second, second], 1), labels, class_names=["no", "yes"], of=OF).axes
    assert left.get_title().endswith(f"{5 / 6:.3f}")
    assert right.get_title().endswith("0.750")
    assert right.get_legend().get_title().get_text() == "finding “yes”"
