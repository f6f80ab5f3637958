"""Mean brightness of all images: `python scripts/mean_brightness.py data=cifar10`."""

from omegaconf import DictConfig

from mlplab.cli import command


@command("mean_brightness")
def main(config: DictConfig) -> None:
    from mlplab.inspection import mean_brightness  # here, so that --help and config errors need not wait for torch

    mean_brightness(config)


if __name__ == "__main__":
    main()
