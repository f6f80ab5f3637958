"""The tables of the benchmark compare repetitions one by one."""


def test_the_tables_compare_repetitions_one_by_one(load):
    training = {
        "loop": [[9.0, 0.002], [9.0, 0.008]],
        "mlplab": [[9.0, 0.002], [9.0, 0.004]],
        "mlplab compiled": [[9.0, 0.001], [9.0, 0.001]],
    }
    cost = {"training, s": 1.0, "in their hooks, %": 2.0}
    written = load("benchmark/tables").markdown({
        "hardware": "2 CPU cores", "torch": "2.15", "when": "2026-11-26T01:00:00",
        "measured": {
            "passing, batch 1": {"updates": 10, "seconds": training},
            "evaluation": {"mlplab": [1.0, 2.0], "plain Lightning": [100.0, 300.0]},
            "figures": {"job": [cost, {**cost, "in their hooks, %": 4.0}]},
        },
    })  # fmt: skip
    lines = written.splitlines()
    assert lines[0] == "2 CPU cores, torch 2.15, 2026-11-26. Median (least–greatest)."
    assert "|  | loop | mlplab | mlplab compiled |" in lines
    assert "| passing, batch 1 | 500 (200–800) | 300 (200–400) | 100 (100–100) |" in lines
    assert "|  | mlplab : loop | mlplab compiled : loop |" in lines
    assert "| passing, batch 1 | 1.50 (1.00–2.00) | 5.00 (2.00–8.00) |" in lines
    assert "| 10,000 images | 1.50 (1.00–2.00) | 200.00 (100.00–300.00) | 125.00 (100.00–150.00) |" in lines
    assert "| job | 1.00 (1.00–1.00) | 3.00 (2.00–4.00) |" in lines


def test_only_what_was_measured_has_a_table(load):
    report = {"hardware": "a", "torch": "b", "when": "c", "measured": {"evaluation": {"mlplab": [1.0]}}}
    assert load("benchmark/tables").markdown(report).count("10,000 images") == 1
    assert "Microseconds" not in load("benchmark/tables").markdown(report)
