"""Compare runs, grouped over seeds: `python scripts/report.py folders=[outputs/sweeps/<name>]`."""

from omegaconf import DictConfig

from mlplab.cli import command


@command("report")
def main(config: DictConfig) -> None:
    from mlplab.report import report  # here, so that --help and config errors need not wait for it

    report([str(folder) for folder in config.folders])


if __name__ == "__main__":
    main()
