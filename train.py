"""Train, validate and test one network: `python train.py model=mlp_dropout data.batch_size=1`."""

from typing import Any

from mlplab.cli import command


@command("train")
def main(config: Any) -> None:
    from mlplab.report.launch import launch  # here, so that --help and config errors need not wait for torch

    launch(config)


if __name__ == "__main__":
    main()
