"""What is minimised, and how logits become probabilities. One output means two classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def predicted(logits: Tensor) -> Tensor:
    """Class numbers (batch,) of logits (batch, outputs): is the one positive, or which of several is the largest."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


class CrossEntropy(nn.Module):
    """Mean cross-entropy of logits (batch, outputs) and labels (batch,): binary for one output, softmax otherwise.

    With several outputs, labels may be probabilities of the classes (batch, outputs), as of mixed samples.

    `label_smoothing` in [0, 1) mixes the labels with the uniform distribution (Szegedy et al. 2016), only while
    training: validation and test report the plain loss, so that runs with and without smoothing can be compared.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.label_smoothing if self.training else 0.0
        if logits.shape[1] > 1:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        targets = labels.to(logits.dtype)
        if smoothing > 0:
            targets = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits[:, 0], targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities (batch, classes) that add up to 1; one logit gives the two columns 1 − p and p."""
        if logits.shape[1] > 1:
            return logits.softmax(dim=1)
        positive = logits[:, 0].sigmoid()
        return torch.stack([1 - positive, positive], dim=1)


class PerceptronLoss(nn.Module):
    """The perceptron criterion: how far the wrong side is ahead, 0 for samples on the right side.

    One output: max(0, −y · logit) with y = ±1 (Rosenblatt 1958). Several: max(0, highest wrong logit − true logit)
    (Crammer & Singer 2001, without their margin). Labels (batch,), logits (batch, outputs); the mean over the batch.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            sign = 2.0 * labels.to(logits.dtype) - 1.0  # (batch,), ±1
            return F.relu(-sign * logits[:, 0]).mean()
        true = logits.gather(1, labels[:, None])[:, 0]  # (batch,)
        wrong = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)  # (batch,)
        return F.relu(wrong - true).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        """1 for the class on whose side of the threshold the sample lies, else 0: (batch, classes)."""
        return F.one_hot(predicted(logits), max(2, logits.shape[1])).to(logits.dtype)
