"""When the moments of a run are."""

from types import SimpleNamespace

import pytest

from mlplab.callbacks.base import look_is_due, moments_passed, planned_updates


def trainer(max_epochs=None, max_steps=-1, updates_per_epoch=4):
    return SimpleNamespace(
        max_epochs=max_epochs,
        max_steps=max_steps,
        global_step=0,
        datamodule=SimpleNamespace(updates_per_epoch=updates_per_epoch),
    )


def looks(run, *, every="auto"):
    """The epochs after which the network is looked at."""
    last, epochs = None, []
    for epoch in range(1, run.max_epochs + 1):
        run.global_step = epoch * run.datamodule.updates_per_epoch
        if look_is_due(run, last, every=every):
            last = run.global_step
            epochs.append(epoch)
    return epochs


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


@pytest.mark.parametrize(
    ("epochs", "updates_per_epoch", "expected"),
    [
        (10, 22, [1, 4, 7, 10]),  # as often as three times is worth its cost in any run
        (50, 22, [1, 9, 17, 25, 34, 42, 50]),
        (100, 1, [1, 15, 29, 43, 58, 72, 86, 100]),  # full batch: an epoch's end takes longer than it
        (30, 352, [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]),
    ],
)
def test_a_short_run_is_looked_at_less_often(epochs, updates_per_epoch, expected):
    assert looks(trainer(epochs, updates_per_epoch=updates_per_epoch)) == expected


def test_looks_can_be_so_many_epochs_apart_in_the_shortest_run():
    assert looks(trainer(6, updates_per_epoch=1), every=2) == [1, 2, 4, 6]
