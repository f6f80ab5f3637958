"""Split sizes, shapes, updates per epoch, loaders and samples: `python scripts/inspect_data.py data=digits`."""

from functools import partial
from pathlib import Path
from typing import Any

from mlplab.cli import command


def inspect_data(config: Any) -> None:
    """Print splits, shapes, updates per epoch and loaders of a data set; draw samples into `config.figure`.

    Raises ConfigError as training would, and OSError when the figure cannot be written.
    """
    from mlplab.runs import build  # here, so that --help and config errors need not wait for torch

    data = build.data_module(config)
    print("Samples", classes(data).to_string(max_rows=30), sep="\n\n")
    print("\nTraining\n", *(f"{name:18} {value}" for name, value in facts(data).items()), sep="\n")
    print("\nDataLoader", loaders(data).to_string() + "\n", sep="\n\n")
    if config.figure and (data.feature_shape == (2,) or data.source.is_images):
        import matplotlib

        from mlplab.figures.style import STYLE

        Path(config.figure).parent.mkdir(exist_ok=True)
        with matplotlib.rc_context(STYLE):
            samples(data).savefig(config.figure, dpi=110)  # of the kind that its name ends with
        print(f"figure  {config.figure}")
    elif config.figure:
        print(f"no figure: a sample is {data.num_features} numbers, neither an image nor a point in the plane")


def classes(data: Any) -> Any:
    """A table: how many samples of each class are in each split, and which share of the split they are."""
    import pandas as pd

    labels = {split: dataset.labels[dataset.indices] for split, dataset in data.datasets.items()}
    columns = {split: all.bincount(minlength=data.num_classes).numpy() for split, all in labels.items()}
    counts = pd.DataFrame(columns, index=list(data.source.class_names))
    counts.loc["all"] = counts.sum()
    shares = (counts / counts.loc["all"]).map(lambda share: f"{share:.1%}" if share == share else "–")
    numbers = counts.map("{:,}".format)
    return pd.concat([column for split in counts for column in (numbers[split], shares[split].rename("share"))], axis=1)


def facts(data: Any) -> dict[str, Any]:
    """Shapes, types, normalization, and how many updates an epoch has."""
    import numpy as np

    features, names = data.source.features, ", ".join(data.source.feature_names)
    num_train, batch = len(data.datasets["train"]), data.preprocess(features[:1])
    rest = num_train % data.batch_size
    first_values = partial(np.array2string, precision=4, threshold=8)
    return {
        "stored sample": f"{data.feature_shape} {features.dtype}{names and f' ({names})'}",
        "stored values": f"{float(features.min()):g} to {float(features.max()):g}",
        "label": f"{data.source.labels.dtype}, 0 to {data.num_classes - 1}",
        "batch": f"{(data.batch_size, *data.feature_shape)} {batch.dtype}, after normalization",
        "subtracted mean": first_values(data.mean.flatten().numpy()),
        "divided by": first_values(data.std.flatten().numpy()),
        "outputs needed": data.num_outputs,
        "batch size": f"{data.batch_size:,} of {num_train:,} training samples",
        "updates per epoch": f"{data.updates_per_epoch:,}{f', the last with {rest} samples' if rest else ''}",
    }


def loaders(data: Any) -> Any:
    """A table of the attributes of the DataLoaders; every one serves whole batches, made by its batch sampler."""
    import pandas as pd

    columns = {}
    for split in data.datasets:
        loader: Any = getattr(data, f"{split}_dataloader")()
        if loader:  # a split may be empty
            batches = loader.batch_sampler
            columns[split] = {
                "dataset": type(loader.dataset).__name__,
                "samples": f"{len(loader.dataset):,}",
                "batch size": f"{batches.batch_size:,}",
                "batches": f"{batches.num_batches:,}",
                "sampler": type(batches.sampler).__name__,
                "shuffled": batches.sampler.shuffle,
                "batch_sampler": type(batches).__name__,
                **{name: getattr(loader, name) for name in ("num_workers", "drop_last", "pin_memory")},
            }
    return pd.DataFrame(columns)


def samples(data: Any) -> Any:
    """The first samples of the first epoch: images, augmented if training does; points in the plane; else None."""
    from mlplab.figures.images import training_samples
    from mlplab.figures.style import look, panels, shortened

    if data.feature_shape == (2,):
        train, names = data.datasets["train"], data.source.feature_names or ("x₁", "x₂")
        figure, (axes,) = panels(1, width=5.6, height=4.6)
        signs = {}
        for label, name in enumerate(data.source.class_names):
            indices = train.indices[train.labels[train.indices] == label]
            x, y = train.features[indices].T.numpy()
            signs[f"{shortened(name)} ({len(indices):,})"] = axes.scatter(x, y, s=14, **look(label))
        axes.set(title="Training samples", xlabel=names[0], ylabel=names[1])
        axes.legend(signs.values(), signs)
        return figure
    return training_samples(data) if data.source.is_images else None


main = command("inspect_data")(inspect_data)

if __name__ == "__main__":
    main()
