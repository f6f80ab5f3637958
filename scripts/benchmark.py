"""Time mlplab against hand-written loops and plain Lightning: `python scripts/benchmark.py`."""

from omegaconf import DictConfig

from mlplab.cli import command


@command("benchmark")
def main(config: DictConfig) -> None:
    from mlplab.benchmark import benchmark  # here, so that --help and config errors need not wait for torch

    benchmark(config)


if __name__ == "__main__":
    main()
