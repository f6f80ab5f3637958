"""Mean brightness of all images: `python scripts/mean_brightness.py data=cifar10`."""

from pathlib import Path
from typing import Any, NamedTuple

from mlplab.cli import command
from mlplab.errors import ConfigError

CHANNELS = {1: ["grey"], 2: ["grey", "opacity"], 3: ["red", "green", "blue"], 4: ["red", "green", "blue", "opacity"]}
# With these keys of `data` no split can be wrong, of whatever size the data set is.
UNSPLIT = {"val_fraction": 0.0, "test_fraction": 0.0, "train_size": None, "num_folds": None, "batch_size": "full"}


class Brightness(NamedTuple):
    """Mean brightness from 0 (black) to 1 (white): over all images per channel and in total, and an array (n,)."""

    per_channel: dict[str, float]
    total: float
    per_image: Any


def mean_brightness(config: Any) -> Brightness:
    """Print the mean brightness of the images that `config.images` names; draw it into `config.figure`.

    "train" are all training images, those for validation among them; "test" are those of the official test set; "all"
    are both. Raises ConfigError for data without images or without a test set.
    """
    from omegaconf import OmegaConf
    from torch.utils.data import ConcatDataset  # here, so that --help and config errors need not wait for torch

    from mlplab.runs import build

    source = build.data_module(OmegaConf.merge(config, {"data": UNSPLIT})).source  # type: ignore[arg-type]
    if not source.is_images:
        raise ConfigError("data must be images, which have a brightness; choose data=digits, cifar10 or image_folder")
    there = {"train": source.features, "test": source.test_features}
    chosen: list[Any] = [part for name, part in there.items() if part is not None and config.images in (name, "all")]
    if not chosen:
        raise ConfigError("images=test: this data set has no official test set; choose images=all")
    images: Any = ConcatDataset(chosen)
    result = brightness(images, batch_size=config.batch_size)
    number = f"all {len(images):,}" if config.images == "all" else f"{len(images):,} {config.images}"
    print(f"Mean brightness of {number} images, from 0 (black) to 1 (white)\n")
    for name, mean in {**result.per_channel, "total": result.total}.items():
        print(f"{name:10} {mean:.6f}")
    if config.figure:
        Path(config.figure).parent.mkdir(exist_ok=True)
        drawn(result, images).savefig(config.figure, dpi=110)
        print(f"figure  {config.figure}")
    return result


def brightness(images: Any, *, batch_size: int) -> Brightness:
    """Mean brightness of a data set of uint8 images (channels, height, width), batch by batch with a DataLoader.

    Added up as integers, it is exact to float64. Opacity has a mean of its own, but does not count as brightness.
    """
    import numpy as np
    from torch.utils.data import DataLoader

    sums = np.concatenate([batch.sum(dim=(2, 3)).numpy() for batch in DataLoader(images, batch_size=batch_size)])
    white = 255 * images[0][0].numel()  # the sum of a channel that is white
    names = CHANNELS.get(sums.shape[1], [f"channel {index}" for index in range(sums.shape[1])])
    colours = sums[:, : len(names) - ("opacity" in names)]  # (n, channels)
    # Python divides integers of any size with a single rounding.
    return Brightness(
        per_channel={name: int(part.sum()) / (white * len(sums)) for name, part in zip(names, sums.T, strict=True)},
        total=int(colours.sum()) / (white * colours.size),
        per_image=colours.sum(axis=1) / (white * colours.shape[1]),
    )


def drawn(result: Brightness, images: Any) -> Any:
    """The histogram of the images' brightness above the darkest and the brightest images."""
    import numpy as np
    from matplotlib.figure import Figure

    from mlplab.figures.style import COLOURS

    figure: Any = Figure(figsize=(9, 6.2), layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=(3, 2.2))
    axes, values = top.subplots(), result.per_image
    axes.hist(values, bins=60, range=None if np.ptp(values) else (0, 1), color=COLOURS[0])
    axes.axvline(result.total, color=COLOURS[1], linestyle="--", label=f"mean {result.total:.4f}")
    axes.set(title="Brightness of the images", xlabel="mean brightness of an image (0 black, 1 white)", ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    below.suptitle("The darkest and the brightest images", fontsize=10)
    n, order = min(10, len(values)), values.argsort(kind="stable")
    for cell, index in zip(below.subplots(2, n, squeeze=False).flat, [*order[:n], *order[::-1][:n]], strict=True):
        pixels = images[index].permute(1, 2, 0).numpy()
        cell.imshow(pixels if pixels.shape[2] in (3, 4) else pixels[..., 0], cmap="gray", vmin=0, vmax=255)
        cell.set(xticks=[], yticks=[], xlabel=f"{values[index]:.3f}")
    return figure


main = command("mean_brightness")(mean_brightness)

if __name__ == "__main__":
    main()
