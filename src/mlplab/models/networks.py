"""The MLP variants: features in, logits out. Plain torch.nn; every network fits on one screen.

All take `num_features` and `num_outputs` (one logit for two classes, else one per class) first; inputs of any shape
(batch, …) are flattened to (batch, num_features), so that images can be fed as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlplab.errors import ConfigError
from mlplab.models.images import CosineTransform, begin_as_gabor_filters
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


class SequentialMLP(nn.Module):
    """Any number of hidden layers as one `nn.Sequential`: linear → normalization → activation → dropout, repeated.

    `hidden_sizes` may be empty (then it is softmax regression); `activation` and `normalization` are names from
    ACTIVATIONS and NORMALIZATIONS; `dropout` is one probability, or one per hidden layer, in [0, 1), and
    `input_dropout` that of a feature (Srivastava et al. 2014). With `cosine_transform`, features are the frequencies of
    images, or the lowest so many of them; with `gabor_filters`, the first layer's weights begin as such filters.
    Linear layers in front of a normalization keep their bias, as in the written-out MLP.
    """

    def __init__(
        self, num_features: int, num_outputs: int, *, hidden_sizes: Sequence[int] = (16, 8), activation: str = "relu",
        normalization: str = "none", dropout: float | Sequence[float] = 0.0, input_dropout: float = 0.0,
        cosine_transform: bool | int = False, gabor_filters: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        probabilities = dropout_per_layer(dropout, num_layers=len(hidden_sizes))
        layers: list[nn.Module] = [nn.Flatten()]
        width, transform = num_features, None
        if cosine_transform:
            layers.insert(0, transform := CosineTransform(num_features, cosine_transform))
            width = transform.num_features
        if input_dropout > 0:
            layers.append(nn.Dropout(input_dropout))
        for next_width, probability in zip(hidden_sizes, probabilities, strict=True):
            layers.append(nn.Linear(width, next_width))
            if normalization != "none":
                layers.append(NORMALIZATIONS[normalization](next_width))
            layers.append(ACTIVATIONS[activation]())
            if probability > 0:
                layers.append(nn.Dropout(probability))
            width = next_width
        layers.append(nn.Linear(width, num_outputs))
        if gabor_filters:
            first = next(layer for layer in layers if isinstance(layer, nn.Linear))
            begin_as_gabor_filters(first, num_features, transform)
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
