"""Search for good settings: `python scripts/tune.py search=mlp n_trials=50`."""

from typing import Any

from mlplab.cli import command


@command("tune")
def main(config: Any) -> None:
    from mlplab.tuning.search import read_search
    from mlplab.tuning.study import open_study

    open_study(search := read_search(config))  # mistakes are answered at once; what trains takes seconds to import
    from mlplab.tuning.trials import tune

    tune(search)


if __name__ == "__main__":
    main()
