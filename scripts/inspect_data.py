"""Split sizes, shapes, updates per epoch, loaders and samples: `python scripts/inspect_data.py data=digits`."""

from omegaconf import DictConfig

from mlplab.cli import command


@command("inspect_data")
def main(config: DictConfig) -> None:
    from mlplab.inspection import inspect_data  # here, so that --help and config errors need not wait for torch

    inspect_data(config)


if __name__ == "__main__":
    main()
