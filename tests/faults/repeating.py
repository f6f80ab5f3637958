"""How often the tests repeat their faults."""

import os

import pytest


def repeated(short: int, full: int) -> pytest.MarkDecorator:
    """Run a test with `count` = `short` among all tests, and `full` in `make test-faults`.

    While working on a test, FAULTS_SHARE=0.1 makes it a tenth of that.
    """
    full = max(short, round(full * float(os.environ.get("FAULTS_SHARE", "1"))))
    return pytest.mark.parametrize("count", [short, pytest.param(full, marks=pytest.mark.faults)])
