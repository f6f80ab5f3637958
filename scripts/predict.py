"""Classes and probabilities for new inputs: `python scripts/predict.py run=outputs/train/<folder> input=<images>`."""

from typing import Any

from mlplab.cli import command


@command("predict")
def main(config: Any) -> None:
    from mlplab.runs.predict import predict  # here, so that --help and config errors need not wait for torch

    predict(config)


if __name__ == "__main__":
    main()
