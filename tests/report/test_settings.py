"""What tells runs apart is found in their configs, in few words."""

from mlplab.report.runs import Run
from mlplab.report.settings import is_compared, numbers, settings, short_names, shown


def run(folder="f", overrides=(), result=None, **config):
    flat = {key.replace("__", "."): value for key, value in config.items()}
    return Run(folder, {"overrides": list(overrides), **(result or {})}, {"folder": str(folder), **flat})


def test_only_what_differs_is_a_setting():
    runs = [run(optimizer__lr=lr, data__batch_size=8, seed=seed) for lr in (0.1, 0.2) for seed in (0, 1)]
    assert settings(runs) == {"optimizer.lr": [0.1, 0.1, 0.2, 0.2]}


def test_seeds_folds_and_paths_are_no_settings():
    runs = [
        run(f"/runs/{i}", seed=i, data__split_seed=i, data__fold=i, logger__csv__save_dir="x", test=bool(i),
            callbacks__checkpoint__dirpath=f"/runs/{i}/checkpoints", callbacks__figures__dpi=i)
        for i in range(3)
    ]  # fmt: skip
    assert settings(runs) == {}
    assert is_compared("callbacks.early_stopping.patience")
    assert not is_compared("hydra/launcher")


def test_runs_of_different_sweeps_are_told_apart_without_overrides():
    runs = [run(model__dropout=0.0), run(model__dropout=0.5), run(model__dropout=0.0, model__norm=True)]
    assert settings(runs) == {"model.dropout": [0.0, 0.5, 0.0], "model.norm": ["–", "–", True]}


def test_a_choice_that_was_typed_stands_for_all_that_it_changes():
    runs = [
        run(overrides=["regularization=none"], loss__label_smoothing=0.0, optimizer__weight_decay=0.0),
        run(overrides=["regularization=combined"], loss__label_smoothing=0.1, optimizer__weight_decay=0.01),
    ]
    assert settings(runs) == {"regularization": ["none", "combined"]}
    assert list(settings(runs, first=["optimizer.weight_decay"])) == ["optimizer.weight_decay"]


def test_a_choice_that_is_typed_for_one_of_two_equal_runs_does_not_part_them():
    runs = [run(overrides=["batching=mini_batch"], data__batch_size=32), run(data__batch_size=32, seed=1),
            run(overrides=["batching=stochastic"], data__batch_size=1)]  # fmt: skip
    assert settings(runs) == {"data.batch_size": [32, 32, 1]}


def test_a_default_is_named_where_nothing_was_typed():
    runs = [run(model__dropout=0.0), run(overrides=["regularization=dropout"], model__dropout=0.5)]
    assert settings(runs) == {"regularization": ["(default)", "dropout"]}


def test_words_are_replaced_by_the_numbers_they_came_to():
    runs = [run(result={"batch_size": 700, "samples": {"train": 700}}), run(result={"batch_size": 8})]
    assert numbers("data.batch_size", runs, ["full", 8]) == [700, 8]
    assert numbers("data.train_size", runs[:1], [None]) == [700]
    assert numbers("data.train_size", runs, [None, None]) is None
    assert numbers("optimizer.nesterov", runs, [True, False]) is None


def test_values_are_shown_as_they_are_typed():
    assert [shown(value) for value in (None, True, 0.10, 1e-5, 8, "[1,2]")] == [
        "null",
        "true",
        "0.1",
        "1e-05",
        "8",
        "[1,2]",
    ]


def test_names_are_short_where_that_is_clear():
    assert short_names(["optimizer.lr", "model._target_"]) == {"optimizer.lr": "lr", "model._target_": "model"}
    assert short_names(["a.lr", "b.lr"]) == {"a.lr": "a.lr", "b.lr": "b.lr"}
