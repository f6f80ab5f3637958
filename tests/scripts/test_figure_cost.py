"""The cost of figures is measured with and without them."""

from mlplab.figure_cost import WITHOUT
from mlplab.speed_tables import figure_cost


def test_overrides_leave_out_all_that_looks_at_a_run(make_config):
    callbacks = make_config(*WITHOUT).callbacks
    assert callbacks.figures is None
    assert "layers" not in callbacks
    assert callbacks.tensorboard.num_embedded == 0


def test_the_table_compares_repetitions_one_by_one():
    costs = {
        "job": {
            "with": {"training": [1.0, 4.2], "afterwards": [3.0, 3.0], "in_hooks": [0.02, 0.04]},
            "without": {"training": [1.0, 4.0], "afterwards": [0.5, 0.5], "in_hooks": [0.0, 0.0]},
        }
    }
    assert figure_cost(costs)[2].startswith(
        "| job | 2.50 (1.00–4.00) | 2.60 (1.00–4.20) | 1.02 (1.00–1.05) | 3.0 (2.0–4.0) | 0.50"
    )
