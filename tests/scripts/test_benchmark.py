"""The tables of the benchmark say of whom a number is."""


def test_each_number_stands_below_its_contender(load):
    seconds = {"loop": [[0, 4.0]], "plain Lightning": [[0, 8.0]], "mlplab": [[0, 2.0]]}
    short = {"loop": [[0, 1.0]], "mlplab": [[0, 2.0]]}
    measured = {"long": {"updates": 1e6, "seconds": seconds}, "short": {"updates": 1e6, "seconds": short}}
    report = {"hardware": "2 CPU cores", "torch": "2", "when": "2026-01-01", "measured": measured}
    lines = load("benchmark/tables").markdown(report).splitlines()
    assert "|  | loop | plain Lightning | mlplab |" in lines
    assert "| short | 1 (1–1) | – | 2 (2–2) |" in lines
    assert "| long | 2.00 (2.00–2.00) | 4.00 (4.00–4.00) |" in lines
    assert "| short | 0.50 (0.50–0.50) | – |" in lines
