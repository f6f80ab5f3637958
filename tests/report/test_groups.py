"""What tells runs apart is found in their configs, in few words; runs that differ in the seed only form a group."""

import pytest

from mlplab.report.frames import as_numbers, compared, grouped, settings
from mlplab.report.study import swept


def lr(value, seed=0, accuracy=0.5, **options):
    return {"optimizer.lr": value}, {"seed": seed, "val/acc": accuracy, **options}


def chosen(runs, **options):
    return {key: list(values) for key, values in settings(runs[0], **options).items()}


# Settings


def test_only_what_differs_is_a_setting(runs):
    rows = [({"optimizer.lr": rate, "data.batch_size": 8}, {"seed": seed}) for rate in (0.1, 0.2) for seed in (0, 1)]
    assert chosen(runs(*rows)) == {"optimizer.lr": ["0.1", "0.1", "0.2", "0.2"]}


def test_seeds_folds_and_paths_are_no_settings(runs, tmp_path):
    rows = [
        ({"data.split_seed": i, "data.fold": i, "logger.tensorboard.save_dir": f"x{i}", "test": bool(i),
          "callbacks.figures.dpi": i, "trainer.profiler.dirpath": f"{tmp_path}/r{i}/profile"}, {"seed": i})
        for i in range(3)
    ]  # fmt: skip
    assert chosen(runs(*rows)) == {}
    assert compared(["callbacks.early_stopping.patience", "hydra/launcher"]) == ["callbacks.early_stopping.patience"]


def test_a_choice_that_was_typed_stands_for_all_that_it_changes(runs):
    made = runs(
        ({"loss.label_smoothing": 0.0, "optimizer.weight_decay": 0.0}, {"overrides": ("regularization=none",)}),
        ({"loss.label_smoothing": 0.1, "optimizer.weight_decay": 0.01}, {"overrides": ("regularization=combined",)}),
    )
    assert chosen(made) == {"regularization": ["none", "combined"]}
    assert list(chosen(made, first=["optimizer.weight_decay"])) == ["optimizer.weight_decay"]


def test_other_data_are_named_before_all_else(runs):
    passing = ({"data.noise": 1, "trainer.max_epochs": 5}, {"overrides": ("trainer.max_epochs=5",)})
    spirals = ({"data.turns": 2, "trainer.max_epochs": 9}, {"overrides": ("trainer.max_epochs=9", "data=spirals")})
    assert chosen(runs(passing, spirals)) == {"data": ["(default)", "spirals"]}
    assert chosen(runs(spirals, passing)) == {"data": ["spirals", "(default)"]}


def test_a_default_is_named_where_nothing_was_typed(runs):
    made = runs(({"model.dropout": 0.0}, {}), ({"model.dropout": 0.5}, {"overrides": ("regularization=dropout",)}))
    assert chosen(made) == {"regularization": ["(default)", "dropout"]}


def test_words_are_replaced_by_the_numbers_they_came_to(runs):
    config = {"data.batch_size": "full", "data.train_size": None, "optimizer.nesterov": True}
    known, _ = runs((config, {"result": {"batch_size": 700, "samples": {"train": 650}}}), ({"data.batch_size": 8}, {}))
    assert list(as_numbers(known, "data.batch_size")) == [700, 8]
    assert as_numbers(known, "data.train_size")[0] == 650
    assert as_numbers(known, "optimizer.nesterov").isna().all()


# Groups


def test_runs_that_differ_in_the_seed_only_form_a_group(runs):
    groups = grouped(*runs(lr(1.0, 0, 0.5), lr(0.2, 0, 0.8), lr(0.2, 1, 0.9), lr(0.2, 2, 1.0)))
    assert [group.label for group in groups] == ["0.2", "1"]  # by number
    assert [group.name for group in groups] == ["lr=0.2", "lr=1"]
    assert groups[0].interval("val/acc").mean == pytest.approx(0.9)
    assert [group.interval("val/acc").n for group in groups] == [3, 1]


def test_folds_of_a_cross_validation_form_a_group(runs):
    (group,) = grouped(*runs(*(({"data.num_folds": 3, "data.fold": fold}, {"val/acc": fold / 2}) for fold in range(3))))
    assert group.interval("val/acc").n == 3
    assert group.interval("val/acc").mean == 0.5


def test_what_did_not_finish_is_kept_apart(runs):
    groups = grouped(*runs(lr(0.1, 0, 0.5), lr(0.1, 1, 0.0, status="diverged"), lr(9.0, 0, 0.0, status="failed")))
    assert [len(group.runs) for group in groups] == [1, 0]
    assert [list(group.members["about"]["status"]) for group in groups] == [["finished", "diverged"], ["failed"]]
    assert groups[1].interval("val/acc").n == 0


def test_the_same_seed_twice_counts_once(runs):
    (group,) = grouped(*runs(lr(0.1, 0, 0.5), lr(0.1, 0, 0.7), lr(0.1, 1, 0.9)))
    assert group.values("val/acc") == [0.7, 0.9]
    assert len(group.members) == 3


LABELS = [
    (({"model._target_": "lab.MLP"}, {"model._target_": "lab.Residual"}), ["MLP", "Residual"]),
    (({"model._target_": "lab.MLP"}, {"model._target_": "lab.MLP"}), ["all runs"]),
    (({"model._target_": "lab.MLP"}, {"model._target_": "mine.MLP"}), ["lab.MLP", "mine.MLP"]),
    (({"optimizer.lr": 0.12345678}, {"optimizer.lr": 0.12345699}), ["0.12345678", "0.12345699"]),
    (({"callbacks.checkpoint.monitor": "val/acc"}, {"callbacks.checkpoint.monitor": "val/loss"}),
     ["val/acc", "val/loss"]),  # which decides what is tested
    (({"a.lr": 1, "b.lr": 1}, {"a.lr": 1, "b.lr": 2}, {"a.lr": 2, "b.lr": 1}),
     ["a.lr=1, b.lr=1", "a.lr=1, b.lr=2", "a.lr=2, b.lr=1"]),
    (({"a.x": 8, "b.lr": 0.1}, {"a.x": 4, "b.lr": 0.1}, {"a.x": 8, "b.lr": 1.0}),
     ["x=4, lr=0.1", "x=8, lr=0.1", "x=8, lr=1"]),
]  # fmt: skip


@pytest.mark.parametrize(("configs", "labels"), LABELS)
def test_a_label_is_short_where_that_is_clear(runs, configs, labels):
    groups = grouped(*runs(*((config, {}) for config in configs)))
    assert [group.label for group in groups] == labels


ORDERS = {
    "numbers": ("data.batch_size", [128, 8, 16], ["8", "16", "128"]),
    "rates": ("optimizer.lr", [0.1, 1e-5, 1.0, 0.003], ["1e-05", "0.003", "0.1", "1"]),
    "lists": ("model.hidden_sizes", [[16, 16], [8], [128], [], [8, 8]], ["[]", "[8]", "[8,8]", "[16,16]", "[128]"]),
    "no limit": ("trainer.gradient_clip_val", [None, 10, 0.5], ["0.5", "10", "null"]),
    "all samples": ("data.train_size", [None, 10, 50], ["10", "null", "50"]),  # which come to 16
    "words, as they came": ("model.activation", ["relu", "gelu", None], ["relu", "gelu", "null"]),
}  # fmt: skip


@pytest.mark.parametrize(("key", "values", "ordered"), ORDERS.values(), ids=ORDERS)
def test_values_come_by_size(runs, key, values, ordered):
    groups = grouped(*runs(*(({key: value}, {}) for value in values)))
    assert [group.label for group in groups] == swept(groups, key) == ordered
