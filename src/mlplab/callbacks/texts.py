"""What TensorBoard's Text tab says of a run, in Markdown."""

from collections.abc import Iterable
from typing import Any

from torch import nn

MOST_CLASSES = 20


def code_block(text: str) -> str:
    """The text in Markdown, as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def table(rows: Iterable[tuple[str, Any]], *, header: tuple[str, str]) -> str:
    """Two columns in Markdown."""
    lines = [header, ("---", "---"), *rows]
    return "\n".join(f"| {name} | {value} |" for name, value in lines)


def model_summary(network: nn.Module) -> str:
    """The modules of a network, and its parameters by name."""
    rows = [
        (name, f"{tuple(parameter.shape)}: {parameter.numel():,}") for name, parameter in network.named_parameters()
    ]  # fmt: skip
    rows.append(("all", f"{sum(parameter.numel() for parameter in network.parameters()):,}"))
    return f"{code_block(str(network))}\n\n{table(rows, header=('parameters', 'shape: number'))}"


def data_facts(data: Any) -> str:
    """How many samples there are of what, and how training is served with them."""
    source = data.source
    names = ", ".join(source.class_names[:MOST_CLASSES]) + (", …" if data.num_classes > MOST_CLASSES else "")
    features = f": {', '.join(source.feature_names)}" if source.feature_names else ""
    rows = [(f"samples, {split}", f"{len(dataset):,}") for split, dataset in data.datasets.items()]
    rows += [
        ("shape of a sample", f"{data.feature_shape}{features}"),
        ("classes", f"{data.num_classes}: {names}"),
        ("batch size", f"{data.batch_size:,}"),
        ("updates per epoch", f"{data.updates_per_epoch:,}"),
    ]
    return table(rows, header=("data", ""))
