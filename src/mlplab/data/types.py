"""What a data set is, and what a batch is."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Source:
    """A data set in memory.

    `features` are uint8 images (n, channels, height, width) or float32 features (n, features); `labels` are int64
    class numbers (n,), indices into `class_names`. `test_features` and `test_labels` are the official test set, where
    there is one; otherwise the test split is taken from the samples. `feature_names` are for axes and tables.
    """

    features: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()
    test_features: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def is_images(self) -> bool:
        return self.features.ndim == 4


class Batch(NamedTuple):
    """The samples of one update: features (batch, …), labels (batch,).

    `weight` corrects the mean where several processes share a batch unevenly (see `mlplab.data.loader`): it is 1 in a
    single process, and 0 for a process without a share, which then computes along on a sample that does not count.
    """

    features: Tensor
    labels: Tensor
    weight: float = 1.0
