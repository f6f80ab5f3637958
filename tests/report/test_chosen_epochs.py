"""The epoch that validation chose against the test set's own, on curves whose answer is plain."""

import pandas as pd
import pytest

from mlplab.report.chosen_epochs import chosen_epochs, moments_of, stopping
from mlplab.report.groups import grouped
from mlplab.report.runs import find, read

CURVES = {
    "epoch": [1.0, 2.0, 3.0, 4.0],
    "updates": [2, 4, 6, 8],
    "val/loss": [0.9, 0.5, 0.6, 0.7],
    "val/acc": [0.6, 0.7, 0.8, 0.8],
    "test/loss": [0.8, 0.6, 0.5, 0.9],
    "test/acc": [0.5, 0.9, 0.7, 0.6],
}


def groups(tmp_path, make_run, monitor, curves=CURVES):
    folder = make_run("run", {"monitor": monitor})
    pd.DataFrame(curves).to_csv(folder / "history.csv", index=False)
    runs, skipped = read(find([tmp_path])[0])
    assert not skipped
    return grouped(runs)


@pytest.mark.parametrize(
    ("monitor", "chosen", "best"),
    [("val/loss", 2.0, 3.0), ("val/acc", 3.0, 2.0)],  # of the two epochs at 80 % the first, as checkpoints are
)
def test_the_test_set_chooses_by_the_same_measure(tmp_path, make_run, monitor, chosen, best):
    (group,) = groups(tmp_path, make_run, monitor)
    moments = moments_of(group.runs[0])
    assert (moments["chosen"], moments["best"], moments["trained"]) == (chosen, best, 4.0)
    assert moments["acc_chosen"] == CURVES["test/acc"][int(chosen) - 1]
    assert moments["loss_best"] == CURVES["test/loss"][int(best) - 1]
    assert (moments["acc_end"], moments["loss_end"]) == (0.6, 0.9)


def test_the_table_shows_accuracies_in_percent(tmp_path, make_run):
    table = chosen_epochs(groups(tmp_path, make_run, "val/loss"))
    assert table.rows[0][1:] == ["4", "2", "3", "90.00", "70.00", "60.00", "0.6", "0.5", "0.9"]
    assert len(table.headings) == len(table.rows[0])


def test_runs_without_a_test_curve_have_no_such_section(tmp_path, make_run):
    without = {name: values for name, values in CURVES.items() if not name.startswith("test/")}
    assert stopping(groups(tmp_path, make_run, "val/loss", without)) is None
