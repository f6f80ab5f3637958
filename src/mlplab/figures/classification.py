"""How well the classes of a split are told apart: confusion, calibration, precision, recall."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from mlplab.figures.pictures import COLOURS
from mlplab.figures.style import GREY, legend_below, panels, share_axes, whole_ticks

MOST_NUMBERS, MOST_NAMES = 12, 40
"""Larger confusion matrices have no numbers in their cells, and no names at their sides."""


def confusion(probabilities: Tensor, labels: Tensor, *, class_names: Sequence[str], of: str = "") -> Figure:
    """Which classes are taken for which, in shares of the true class, beside the accuracy of each class.

    `probabilities` (n, classes) and `labels` (n,); `of` says in the title which samples they are, and at which moment.
    """
    num_classes = len(class_names)
    counts = multiclass_confusion_matrix(probabilities, labels, num_classes).float()  # (true, predicted)
    shares = (counts / counts.sum(dim=1, keepdim=True)).numpy()  # NaN for a class without samples
    size = min(max(3.6, 1.8 + 0.38 * num_classes), 11)
    figure = Figure(figsize=(1.6 * size + 1.4, size + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    figure.suptitle(f"Confusion of classes\n{of}" if of else "Confusion of classes", fontsize=11)
    matrix, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    bars.spines[["top", "right"]].set_visible(False)
    matrix.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    matrix.set(xlabel="predicted class", ylabel="true class")
    numbered = num_classes <= MOST_NUMBERS
    matrix.set_title(f"{'samples; ' if numbered else ''}colour: share of the true class", fontsize=10)
    names = [f"{name[:15]}…" if len(name) > 16 else name for name in class_names]
    if num_classes <= MOST_NAMES:
        cramped = num_classes > 3 and max(map(len, names)) > 3
        slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if cramped else {}
        matrix.set_xticks(range(num_classes), names, **slanted)
        matrix.set_yticks(range(num_classes), names)
    if numbered:
        write_counts(matrix, counts, shares)
    accuracies = shares.diagonal()
    bars.barh(range(num_classes), np.nan_to_num(accuracies), color=COLOURS[0])
    mean = float(np.nanmean(accuracies))
    bars.axvline(mean, color="black", linestyle=":", linewidth=1)
    bars.set(xlabel="accuracy", xlim=(0, 1.02), xticks=(0, 0.5, 1), yticks=[])
    bars.set_title(f"accuracy of each class\n(dotted: their mean, {mean:.1%})", fontsize=10)
    bars.set_ylim(matrix.get_ylim())  # in line with the rows of the matrix
    return figure


def write_counts(axes: Axes, counts: Tensor, shares: np.ndarray) -> None:
    """The number of samples into each cell."""
    for true, predicted in np.argwhere(counts.numpy() > 0):
        colour, number = "white" if shares[true, predicted] > 0.5 else "black", int(counts[true, predicted])
        axes.text(predicted, true, f"{number:,}", ha="center", va="center", color=colour, fontsize=9)


def calibration(probabilities: Tensor, labels: Tensor, *, bins: int = 10, of: str = "") -> Figure:
    """Reliability diagram: how often the network is right, by how sure it is of the class it chooses.

    The expected calibration error is the mean distance from the diagonal, weighted by samples (Guo et al. 2017).
    `of` says in the title which samples they are, and at which moment.
    """
    confidence, predicted = probabilities.max(dim=1)
    correct = predicted == labels
    error = multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=bins, norm="l1")
    figure, (diagram, histogram) = panels(2, width=4.2, title=f"Calibration: {of}" if of else "", lines_below=2)
    sure = confidence.double().clamp(max=1).numpy()
    share_right, mean_confidence = calibration_curve(correct.numpy(), sure, n_bins=bins)  # of the bins with samples
    diagram.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    diagram.vlines(
        mean_confidence, mean_confidence, share_right, color=COLOURS[5], alpha=0.6, linewidth=3, label="error"
    )
    counts, edges = np.histogram(sure, bins, range=(0, 1))
    sizes = 20 + 200 * counts[counts > 0] / len(sure)  # larger where more samples are
    diagram.plot(mean_confidence, share_right, color=COLOURS[0], linewidth=1)
    label = "network (area: share of samples)"
    diagram.scatter(mean_confidence, share_right, s=sizes, color=COLOURS[0], clip_on=False, label=label)
    share_axes(diagram, x="mean confidence", y="accuracy", title=f"Calibration error {float(error):.1%}")
    legend_below(diagram, columns=2)
    histogram.hist([confidence[correct].numpy(), confidence[~correct].numpy()], edges.tolist(), stacked=True,
                   color=[COLOURS[0], COLOURS[5]], label=["right", "wrong"])  # fmt: skip
    accuracy, mean = float(correct.float().mean()), float(confidence.mean())  # where they are equal, both are seen:
    histogram.axvline(accuracy, color=COLOURS[1], linewidth=4, label=f"accuracy {accuracy:.1%}")
    histogram.axvline(mean, color="black", linestyle="--", linewidth=1.2, label=f"mean confidence {mean:.1%}")
    histogram.set(title="How sure the network is", xlabel="confidence", ylabel="samples", xlim=(0, 1.01))
    whole_ticks(histogram.yaxis)
    legend_below(histogram, columns=2)
    return figure


def precision_recall(probabilities: Tensor, labels: Tensor, *, class_names: Sequence[str], of: str = "") -> Figure:
    """Precision–recall and ROC curve of the second of two classes, over all thresholds of its probability.

    `of` says in the title which samples they are, and at which moment.
    """
    scores, positive = probabilities[:, 1].double().numpy(), labels.numpy() == 1
    share = float(positive.mean())
    figure, (left, right) = panels(2, width=4.2, title=f"Finding “{class_names[1]}”: {of}" if of else "")
    precision, recall, _ = precision_recall_curve(positive, scores)
    average = average_precision_score(positive, scores)
    left.step(recall, precision, where="post", color=COLOURS[0])
    left.axhline(share, color=GREY, linestyle=":", label=f"chance ({share:.2f})")
    share_axes(left, x="recall", y="precision", title=f"Precision–recall, average precision {average:.3f}")
    false_positives, true_positives, _ = roc_curve(positive, scores)
    right.plot(false_positives, true_positives, color=COLOURS[0])
    right.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    area = roc_auc_score(positive, scores)
    share_axes(right, x="false positive rate", y="true positive rate", title=f"ROC, area {area:.3f}")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=9, loc="lower right", title=f"finding “{class_names[1]}”", title_fontsize=9)
    return figure


def is_graded(probabilities: Tensor) -> bool:
    """Whether the probabilities say how sure the network is; those of a perceptron are 0 or 1."""
    return bool(((probabilities > 0) & (probabilities < 1)).any())


def has_both_classes(labels: Tensor) -> bool:
    """Whether there are samples of more than one class, which curves over thresholds need."""
    return len(torch.unique(labels)) > 1
