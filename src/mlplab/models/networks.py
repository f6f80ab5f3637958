"""The MLP variants: features in, logits out. Plain torch.nn; every network fits on one screen.

All take `num_features` and `num_outputs` (one logit for two classes, else one per class) first; inputs of any shape
(batch, …) are flattened to (batch, num_features), so that images can be fed as they are.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlplab.errors import ConfigError
from mlplab.models.losses import predicted

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
NORMALIZATIONS: dict[str, type[nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class SoftmaxRegression(nn.Module):
    """A linear map to logits (batch, num_outputs); with one output it is logistic regression."""

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.flatten(start_dim=1))


class Perceptron(SoftmaxRegression):
    """One linear unit, or one per class where there are more than two; the larger side wins (Rosenblatt 1958).

    `forward` gives the weighted sums (batch, num_outputs); `threshold` turns them into class numbers (batch,).
    Train it with the perceptron criterion, `mlplab.models.losses.PerceptronLoss`.
    """

    threshold = staticmethod(predicted)


class MLP(nn.Module):
    """Two hidden layers, written out so that a breakpoint or a print can stand between any two lines of `forward`.

    `hidden_sizes` are the two widths; `dropout` is one probability, or one per hidden layer, in [0, 1).
    """

    def __init__(
        self, num_features: int, num_outputs: int, *, hidden_sizes: Sequence[int] = (16, 8),
        dropout: float | Sequence[float] = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(hidden_sizes) != 2:
            raise ConfigError(
                f"model.hidden_sizes must have two widths for the written-out MLP, got {list(hidden_sizes)!r}; "
                "model=mlp_sequential takes any number"
            )
        width_1, width_2 = hidden_sizes
        p_1, p_2 = dropout_per_layer(dropout, num_layers=2)
        self.linear_1 = nn.Linear(num_features, width_1)
        self.dropout_1 = _dropout(p_1)
        self.linear_2 = nn.Linear(width_1, width_2)
        self.dropout_2 = _dropout(p_2)
        self.linear_out = nn.Linear(width_2, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        features = features.flatten(start_dim=1)  # (batch, num_features)
        hidden_1 = self.dropout_1(torch.relu(self.linear_1(features)))  # (batch, width_1)
        hidden_2 = self.dropout_2(torch.relu(self.linear_2(hidden_1)))  # (batch, width_2)
        return self.linear_out(hidden_2)  # (batch, num_outputs)


class CosineTransform(nn.Module):
    """Images (batch, channels, height, width) as the orthonormal two-dimensional DCT-II: as much of each frequency.

    A rotation of the features, which leaves an MLP what it is; but Adam adapts its rates along the axes, and those of
    frequencies suit images better than those of pixels. With `lowest`, only so many are kept along each side, which
    leaves out the finest detail; this needs square images of one or three channels. `num_features` is what is left.
    """

    def __init__(self, num_features: int, lowest: bool | int = True) -> None:
        super().__init__()
        self.lowest, self.num_features = None if lowest is True else lowest, num_features
        if self.lowest is not None:
            channels = 1 if math.isqrt(num_features) ** 2 == num_features else 3
            size = math.isqrt(num_features // channels)
            if channels * size**2 != num_features or size < self.lowest:
                raise ConfigError(
                    f"model.cosine_transform={lowest} needs square images, grey or of three colours, of at least "
                    f"{lowest} pixels a side; these data have {num_features} features"
                )
            self.num_features = channels * self.lowest**2

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4:
            raise ConfigError("model.cosine_transform needs images; set it to false")
        height, width = (cosines(size)[: self.lowest].to(images) for size in images.shape[2:])
        return height @ images @ width.T

    def inverse(self, frequencies: Tensor, shape: Sequence[int]) -> Tensor:
        """The images (n, *shape) that have these frequencies (n, num_features) and no others."""
        height, width = (cosines(size)[: self.lowest].to(frequencies) for size in shape[1:])
        return height.T @ frequencies.view(-1, shape[0], len(height), len(width)) @ width


def cosines(size: int) -> Tensor:
    """The matrix of the orthonormal DCT-II (size, size): a cosine in each row, the slowest first."""
    frequency, place = torch.arange(size)[:, None], torch.arange(size) + 0.5
    waves = torch.cos(math.pi / size * frequency * place) * math.sqrt(2 / size)
    return torch.where(frequency == 0, math.sqrt(1 / size), waves)


class SequentialMLP(nn.Module):
    """Any number of hidden layers as one `nn.Sequential`: linear → normalization → activation → dropout, repeated.

    `hidden_sizes` may be empty (then it is softmax regression); `activation` and `normalization` are names from
    ACTIVATIONS and NORMALIZATIONS; `dropout` is one probability, or one per hidden layer, in [0, 1), and
    `input_dropout` that of a feature (Srivastava et al. 2014). With `cosine_transform`, features are the frequencies of
    images, or the lowest so many of them. Linear layers in front of a normalization keep their bias, as in the
    written-out MLP.
    """

    def __init__(
        self, num_features: int, num_outputs: int, *, hidden_sizes: Sequence[int] = (16, 8), activation: str = "relu",
        normalization: str = "none", dropout: float | Sequence[float] = 0.0, input_dropout: float = 0.0,
        cosine_transform: bool | int = False,
    ) -> None:  # fmt: skip
        super().__init__()
        probabilities = dropout_per_layer(dropout, num_layers=len(hidden_sizes))
        layers: list[nn.Module] = [nn.Flatten()]
        if cosine_transform:
            layers.insert(0, transform := CosineTransform(num_features, cosine_transform))
            num_features = transform.num_features
        if input_dropout > 0:
            layers.append(nn.Dropout(input_dropout))
        width = num_features
        for next_width, probability in zip(hidden_sizes, probabilities, strict=True):
            layers.append(nn.Linear(width, next_width))
            if normalization != "none":
                layers.append(NORMALIZATIONS[normalization](next_width))
            layers.append(ACTIVATIONS[activation]())
            if probability > 0:
                layers.append(nn.Dropout(probability))
            width = next_width
        layers.append(nn.Linear(width, num_outputs))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)  # (batch, num_outputs)


class ResidualBlock(nn.Module):
    """x + contract(activation(expand(layer_norm(x)))): an inverted bottleneck, (batch, width) → (batch, width)."""

    def __init__(self, width: int, *, expansion: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = _dropout(dropout)
        self.contract = nn.Linear(expansion * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.activation(self.expand(self.norm(hidden)))  # (batch, expansion × width)
        return hidden + self.contract(self.dropout(inner))  # (batch, width)


class ResidualMLP(nn.Module):
    """Residual MLP of normalised inverted bottlenecks (Bachmann et al. 2023, "Scaling MLPs: A Tale of Inductive Bias").

    A linear embedding to `width`, `depth` blocks that widen to `expansion` × `width` and back, a linear output.
    Deviation from the paper: `dropout` inside the blocks, `input_dropout` of features, and the `cosine_transform` of
    images (the paper uses none, and so does the default).
    """

    def __init__(
        self, num_features: int, num_outputs: int, *, width: int = 64, depth: int = 2, expansion: int = 4,
        activation: str = "gelu", dropout: float | Sequence[float] = 0.0, input_dropout: float = 0.0,
        cosine_transform: bool | int = False,
    ) -> None:  # fmt: skip
        super().__init__()
        transform: nn.Module = nn.Identity()
        if cosine_transform:
            transform = CosineTransform(num_features, cosine_transform)
            num_features = transform.num_features
        self.features = nn.Sequential(transform, nn.Flatten(), _dropout(input_dropout))
        self.embed = nn.Linear(num_features, width)
        blocks = [
            ResidualBlock(width, expansion=expansion, activation=activation, dropout=probability)
            for probability in dropout_per_layer(dropout, num_layers=depth)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.linear_out = nn.Linear(width, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.embed(self.features(features))  # (batch, width)
        return self.linear_out(self.blocks(hidden))  # (batch, num_outputs)


def dropout_per_layer(dropout: float | Sequence[float], *, num_layers: int) -> list[float]:
    """A dropout probability for each of `num_layers` hidden layers. Raises ConfigError for a list of another length."""
    probabilities = [dropout] * num_layers if isinstance(dropout, int | float) else list(dropout)
    if len(probabilities) != num_layers:
        raise ConfigError(
            f"model.dropout must be one number or one per hidden layer ({num_layers}), got {probabilities!r}"
        )
    return probabilities


def _dropout(probability: float) -> nn.Module:
    return nn.Dropout(probability) if probability > 0 else nn.Identity()
