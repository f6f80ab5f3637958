"""Evaluate a finished run: `python eval.py run=outputs/train/<folder> split=test`."""

from pathlib import Path

from omegaconf import DictConfig

from mlplab.cli import command
from mlplab.record import Record


@command("eval")
def main(config: DictConfig) -> None:
    Record.read(Path(config.run))  # a folder that is no run is named at once
    from mlplab.evaluation import evaluate  # here, so that --help and config errors need not wait for torch

    evaluate(config)


if __name__ == "__main__":
    main()
