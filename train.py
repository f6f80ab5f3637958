"""Train, validate and test one network: `python train.py model=mlp_dropout data.batch_size=1`."""

from typing import Any

from mlplab.cli import command


@command("train")
def main(config: Any) -> None:
    from mlplab.runs.train import resume, train  # here, so that --help and config errors need not wait for torch

    resume(config.resume) if config.resume else train(config)


if __name__ == "__main__":
    main()
