"""Compare runs, grouped over seeds, or show one: `python scripts/report.py outputs/sweeps/<name>`."""

from typing import Any

from mlplab.cli import command


@command("report", bare_paths="run")
def main(config: Any) -> None:
    from mlplab.report.report import report  # here, so that --help and config errors need not wait for it

    report([config.run] if isinstance(config.run, str) else config.run, config.into)


if __name__ == "__main__":
    main()
