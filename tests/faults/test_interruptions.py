"""A run that is interrupted, however, wherever and as often as may be, ends as the run that was not."""

import functools
import itertools
import random
import runpy
from collections.abc import Iterator
from pathlib import Path

import child
import pytest
from comparing import differences, doubled
from repeating import repeated

from mlplab.runs.record import Record

SETTINGS = runpy.run_path(str(Path(__file__).parents[1] / "runs" / "test_resume.py"))["SETTINGS"] | {
    "an average of the weights": ("regularization=weight_averaging", "callbacks.weight_averaging.every_n_updates=3"),
    "Nesterov, one cycle": ("model=mlp_dropout", "optimizer=nesterov", "scheduler=one_cycle"),
}
COMMON = (
    "data.batch_size=5", "trainer.max_epochs=4", "threads=1", "callbacks.update_monitor.every_n_updates=1",
    "callbacks.figures=null", "callbacks.progress_bar=null", "trainer.enable_progress_bar=false",
)  # fmt: skip
HOWS = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "exception": 1}
"""Interruption → the exit code that it must end with."""
METHODS = ("training_step", "training_step", "training_step", "on_validation_epoch_end", "on_train_epoch_end")
SAVED_AT_ONCE = ("checkpoint.every_n_minutes=null", "checkpoint.max_share=1")
SAVING = (("null", 1), (1, "null"), (4, "null"), (7, 2))
"""checkpoint.every_n_updates and every_n_epochs."""


def cases(count: int) -> Iterator[tuple]:
    """Settings, updates per pass, loader workers and ways of saving, all combined, in an order mixed up once."""
    order = random.Random(0)
    settings = itertools.cycle(SETTINGS)
    made = [
        (next(settings), group, workers, saving)
        for saving, workers, group in itertools.product(2 * SAVING, (0, 1, 2), (1, 3))
    ]
    order.shuffle(made)
    return itertools.islice(itertools.cycle(made), count)


@repeated(short=1, full=48)
def test_an_interrupted_run_ends_as_the_run_that_was_not(count, train, run, tmp_path, tally):
    """Each of `count` runs is interrupted one to five times."""
    chance, wholes, ways = random.Random(count), {}, itertools.cycle(HOWS)
    for number, (setting, group, workers, saving) in enumerate(cases(count)):
        overrides = (*COMMON, *SETTINGS[setting], f"steps_per_execution={group}")
        if (setting, group) not in wholes:
            folder = tmp_path / f"whole-{len(wholes)}"
            train(*overrides, folder=folder.name)
            wholes[setting, group] = folder
        whole = Record.read(wholes[setting, group])
        every = f"checkpoint.every_n_updates={saving[0]}", f"checkpoint.every_n_epochs={saving[1]}"
        overrides = (*overrides, *every, f"data.num_workers={workers}", *SAVED_AT_ONCE)
        broken = tmp_path / f"broken-{number}"
        launch = functools.partial(train, *overrides, folder=broken.name)
        updates = sorted(chance.randint(1, whole.values["updates"]) for _ in range(number % 5 + 1))
        story = [f"{setting}, {group} updates per pass, {workers} workers, saving every {saving}"]
        for update in updates:
            how, method = next(ways), chance.choice(METHODS)
            ended = launch(fault=child.Interrupted(how, update, method), code=None)
            story.append(f"{how} at update {update} after {method}: exit {ended.code}")
            if ended.code == 0:  # it had ended before
                break
            assert ended.code == HOWS[how], "\n".join([*story, ended.output])
            if how in ("SIGTERM", "SIGINT"):
                assert Record.read(broken).values["status"] == "stopped"
                assert f"to continue: python train.py resume={broken.name}\n" in ended.output
            if (broken / "result.json").exists():
                launch = functools.partial(run, child.resume, broken)
            tally(f"interruptions by {how}")
        run(child.resume, broken, story="\n".join(story))
        assert not differences(whole.folder, broken), "\n".join([*story, *differences(whole.folder, broken)])
        assert not doubled(broken), story
        tally("interrupted runs that ended as the whole ones, bitwise")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.faults
def test_the_number_of_workers_and_of_updates_per_pass_changes_nothing(setting, train, tmp_path, tally):
    digests = set()
    for group, workers in itertools.product((1, 4), (0, 2)):
        overrides = (*COMMON, *SETTINGS[setting], f"steps_per_execution={group}", f"data.num_workers={workers}")
        train(*overrides, folder=f"{group}-{workers}")
        digests.add(Record.read(tmp_path / f"{group}-{workers}").values["weights_digest"])
    assert len(digests) == 1
    tally("runs with other workers and updates per pass, weights equal", 4)
