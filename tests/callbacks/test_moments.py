"""When the moments of a run are."""

from types import SimpleNamespace

import pytest

from mlplab.callbacks.moments import moments_passed, planned_updates


def trainer(max_epochs=None, max_steps=-1, updates_per_epoch=4):
    return SimpleNamespace(
        max_epochs=max_epochs, max_steps=max_steps, datamodule=SimpleNamespace(updates_per_epoch=updates_per_epoch)
    )


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "planned"), [(5, -1, 20), (5, 12, 12), (5, 100, 20), (-1, 12, 12), (-1, -1, None)]
)
def test_a_run_ends_at_the_first_limit(max_epochs, max_steps, planned):
    assert planned_updates(trainer(max_epochs, max_steps)) == planned


@pytest.mark.parametrize(("epochs", "moments"), [(10, 10), (50, 10), (1000, 10), (3, 3)])
def test_there_are_about_ten_moments_the_last_at_the_end(epochs, moments):
    run = trainer(epochs)
    passed = [moments_passed(run, 4 * epoch) for epoch in range(epochs + 1)]
    assert passed[0] == 0
    assert passed[-1] == 10 > passed[-2]
    assert len(set(passed)) - 1 == moments


def test_without_an_end_the_moments_become_rarer():
    passed = [moments_passed(trainer(-1), updates) for updates in range(1, 65)]
    assert [index + 1 for index in range(63) if passed[index + 1] > passed[index]] == [1, 3, 7, 15, 31, 63]


def test_moments_can_be_so_many_epochs_apart():
    passed = [moments_passed(trainer(10), 4 * epoch, every=3) for epoch in range(10)]
    assert passed == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
