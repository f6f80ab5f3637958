"""Evaluate a finished run: `python eval.py run=outputs/train/<folder> split=test`."""

from typing import Any

from mlplab.cli import command


@command("eval")
def main(config: Any) -> None:
    from mlplab.runs.folders import find_run
    from mlplab.runs.record import Record

    Record.read(find_run(config.run))  # a misspelt folder is named at once
    from mlplab.runs.evaluate import evaluate  # here, so that --help and config errors need not wait for torch

    evaluate(config)


if __name__ == "__main__":
    main()
