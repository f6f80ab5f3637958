"""The epoch that validation chose, beside the one that the test set would have chosen: of runs with a test curve."""

import math
from collections.abc import Sequence

import pandas as pd

from mlplab.report.groups import Group
from mlplab.report.intervals import mean_interval
from mlplab.report.page import Section, Table
from mlplab.report.runs import Run
from mlplab.report.words import shown_interval, smaller_is_better

HEADINGS = {
    "trained": ("epochs trained", "epochs"),
    "chosen": ("epoch chosen by validation", "epochs"),
    "best": ("epoch best for the test set", "epochs"),
    "acc_chosen": ("test accuracy there, %: chosen", "test/acc"),
    "acc_best": ("best", "test/acc"),
    "acc_end": ("at the end", "test/acc"),
    "loss_chosen": ("test loss: chosen", "test/loss"),
    "loss_best": ("best", "test/loss"),
    "loss_end": ("at the end", "test/loss"),
}
"""What is measured of each run → its heading, and the metric whose format it has."""


def stopping(groups: Sequence[Group]) -> Section | None:
    """What validation chose against what the test set would have chosen, where runs evaluated it all along."""
    table = chosen_epochs(groups)
    if table is None:
        return None
    text = [
        "These runs evaluated the test set at every validation, to compare; nothing was chosen by it, and result.json "
        "counts each look. “Best” is the best epoch of the same run by the test set's own loss or accuracy: without "
        "looking it is not to be had."
    ]
    return Section("The epoch chosen, and the one the test set would have chosen", text=text, tables=[table])


def chosen_epochs(groups: Sequence[Group]) -> Table | None:
    """A row for each group; None where no run has a test curve."""
    rows = []
    for group in groups:
        found = [moments for run in group.runs if (moments := moments_of(run))]
        if found:
            cells = [
                shown_interval(mean_interval([moments[key] for moments in found]), metric)
                for key, (_, metric) in HEADINGS.items()
            ]
            rows.append([group.label, *cells])
    return Table(["", *(heading for heading, _ in HEADINGS.values())], rows) if rows else None


def moments_of(run: Run) -> dict[str, float] | None:
    """Epochs and scores at the epoch that `monitor` chose, at the one that the test set would have, and at the end.

    The test set chooses by the same measure, the loss or the accuracy; of equal epochs the first is chosen, as
    checkpoints are. None without a curve of both.
    """
    monitor = str(run.config.get("monitor", "val/acc"))
    oracle = monitor.replace("val/", "test/")
    if oracle == monitor or not {monitor, "test/acc", "test/loss"} <= set(run.history):
        return None
    rows = run.history.dropna(subset=[monitor, "test/acc", "test/loss"])
    if rows.empty:
        return None
    places = {"chosen": first_best(rows[monitor]), "best": first_best(rows[oracle]), "end": rows.index[-1]}
    moments = {"trained": float(rows["epoch"].iloc[-1])}
    moments |= {name: float(rows["epoch"][place]) for name, place in places.items()}
    for measure in ("acc", "loss"):
        moments |= {f"{measure}_{name}": float(rows[f"test/{measure}"][place]) for name, place in places.items()}
    return moments if all(math.isfinite(value) for value in moments.values()) else None


def first_best(values: pd.Series) -> int:
    """The index of the best value of a metric, the first of equal ones."""
    return int(values.idxmin() if smaller_is_better(str(values.name)) else values.idxmax())
