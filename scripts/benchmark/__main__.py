"""Time mlplab against hand-written loops and plain Lightning: `python scripts/benchmark`."""

import json
from pathlib import Path
from typing import Any

from mlplab.cli import command
from mlplab.errors import ConfigError
from mlplab.files import write_atomically


@command("benchmark")
def main(config: Any) -> None:
    """Measure what `config.only` names, or everything; print the tables, write benchmark.json and benchmark.md."""
    from measure import MEASUREMENTS, report  # here, so that --help and config errors need not wait for torch
    from tables import markdown

    names = [name for name in MEASUREMENTS if not config.only or any(part in f"{name}," for part in config.only)]
    if not names:
        raise ConfigError(f"only={list(config.only)} names no workload; there are: {list(MEASUREMENTS)}")
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    measured = report(names, config)
    write_atomically(folder / "benchmark.json", json.dumps(measured, indent=2) + "\n")
    write_atomically(folder / "benchmark.md", markdown(measured))
    print(markdown(measured))


if __name__ == "__main__":
    main()
