"""How well the classes of a split are told apart, from class probabilities (n, classes) and labels (n,).

`of` says in the titles which samples they are, and at which moment.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from mlplab.figures.style import COLOURS, INK, legend_below, panels, shortened

MOST_NUMBERS, MOST_NAMES = 12, 40
"""Larger confusion matrices have no numbers in their cells, and no names at their sides."""


def confusion(probabilities: Tensor, labels: Tensor, *, class_names: Sequence[str], of: str) -> Figure:
    """Which classes are taken for which, in shares of the true class, beside the accuracy of each class."""
    names, num_classes = [shortened(name) for name in class_names], len(class_names)
    numbered, cramped = num_classes <= MOST_NUMBERS, num_classes > 3 and max(map(len, names)) > 3
    size = min(max(3.6, 1.8 + 0.38 * num_classes), 11)
    figure = Figure(figsize=(1.6 * size + 1.4, size + 0.3), layout="constrained")
    figure.suptitle(f"Confusion of classes\n{of}")
    matrix, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    display = ConfusionMatrixDisplay.from_predictions(
        labels, probabilities.argmax(dim=1), labels=range(num_classes), display_labels=names, normalize="true",
        include_values=numbered, xticks_rotation="vertical" if cramped else "horizontal", cmap="Blues", ax=matrix,
        colorbar=False, im_kw={"vmin": 0, "vmax": 1, "aspect": "auto"}, text_kw={"fontsize": 9},
    )  # fmt: skip
    shares = display.confusion_matrix
    if numbered:
        counts = shares * np.bincount(labels, minlength=num_classes)[:, None]
        for text, count in zip(display.text_.flat, counts.flat, strict=True):
            text.set_text(f"{count:,.0f}" if count else "")
    matrix.set(xlabel="predicted class", ylabel="true class")
    matrix.set_title(f"{'samples; ' if numbered else ''}colour: share of the true class", fontsize=10)
    matrix.grid(visible=False)
    if num_classes > MOST_NAMES:
        matrix.set(xticks=[], yticks=[])
    accuracies = np.where(np.bincount(labels, minlength=num_classes), shares.diagonal(), np.nan)  # no samples: none
    mean = np.nanmean(accuracies)
    bars.barh(range(num_classes), accuracies)
    bars.axvline(mean, color=INK, linestyle=":", linewidth=1)
    bars.set(xlabel="accuracy", xlim=(0, 1.02), xticks=(0, 0.5, 1), yticks=[], ylim=matrix.get_ylim())
    bars.set_title(f"accuracy of each class\n(dotted: their mean, {mean:.1%})", fontsize=10)
    return figure


def calibration(probabilities: Tensor, labels: Tensor, *, bins: int = 10, of: str) -> Figure:
    """Reliability diagram: how often the network is right, by how sure it is of the class it chooses.

    The expected calibration error is the mean distance from the diagonal, weighted by samples (Guo et al. 2017).
    """
    confidence, predicted = probabilities.max(dim=1)
    sure, correct = confidence.double().clamp(max=1).numpy(), (predicted == labels).numpy()
    error = multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=bins, norm="l1")
    figure, (diagram, histogram) = panels(2, width=4.2, title=f"Calibration: {of}", lines_below=2)
    display = CalibrationDisplay.from_predictions(correct, sure, n_bins=bins, ax=diagram, name="network")
    x, y = display.prob_pred, display.prob_true  # of the bins with samples
    diagram.vlines(x, x, y, color=COLOURS[1], alpha=0.6, linewidth=3, label="error")
    title = f"Calibration error {float(error):.1%}"
    diagram.set(xlabel="mean confidence", ylabel="accuracy", title=title, aspect="equal")
    parts, names = [sure[correct], sure[~correct]], ["right", "wrong"]
    histogram.hist(parts, bins, range=(0, 1), stacked=True, color=COLOURS[:2], label=names)
    accuracy, mean = correct.mean(), sure.mean()  # where they are equal, both are seen:
    histogram.axvline(accuracy, color=COLOURS[4], linewidth=4, label=f"accuracy {accuracy:.1%}")
    histogram.axvline(mean, color=INK, linestyle="--", linewidth=1.2, label=f"mean confidence {mean:.1%}")
    histogram.set(title="How sure the network is", xlabel="confidence", ylabel="samples", xlim=(0, 1.01))
    histogram.locator_params(axis="y", integer=True)
    for axes in (diagram, histogram):
        legend_below(axes, columns=2)
    return figure


def precision_recall(probabilities: Tensor, labels: Tensor, *, class_names: Sequence[str], of: str) -> Figure:
    """Precision–recall and ROC curve of the second of two classes, over all thresholds of its probability."""
    name, truth, scores = shortened(class_names[1]), labels.numpy(), probabilities[:, 1].double().numpy()
    figure, (left, right) = panels(2, width=4.2, title=f"Finding “{name}”: {of}")
    recall = PrecisionRecallDisplay.from_predictions(truth, scores, ax=left, plot_chance_level=True)
    roc = RocCurveDisplay.from_predictions(truth, scores, ax=right, plot_chance_level=True)
    title = f"Precision–recall, average precision {recall.average_precision:.3f}"
    left.set(xlabel="recall", ylabel="precision", title=title)
    right.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC, area {roc.roc_auc:.3f}")
    for axes in (left, right):
        axes.legend(loc="lower right", title=f"finding “{name}”")
    return figure
