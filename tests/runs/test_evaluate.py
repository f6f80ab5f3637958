"""A run folder read back: the numbers of training, to the last bit, and an error that names the file for all else."""

import json
import re
import shutil

import pytest
import torch
from omegaconf import OmegaConf

import mlplab
from mlplab.errors import ConfigError
from mlplab.runs.evaluate import evaluate, load_run
from mlplab.runs.record import Record


@pytest.fixture(scope="module")
def evaluation_of(composed):
    return lambda folder, *overrides: evaluate(composed("eval", f"run={folder}", "accelerator=cpu", *overrides))


@pytest.fixture
def run_folder(finished, tmp_path):
    """A copy of a finished run that a test may spoil."""
    return shutil.copytree(finished.folder, tmp_path / "copy")


VARIANTS = {
    "default": [],
    "three classes": ["data=spirals", "data.num_samples=80"],
    "images": ["data=digits", "data.train_size=60", "data.eval_batch_size=100", "model=mlp_dropout"],
    "batch norm": ["model=mlp_sequential", "model.normalization=batch", "data.batch_size=14"],
    "bf16-mixed": ["trainer.precision=bf16-mixed", "model=perceptron"],
    "64-true": ["trainer.precision=64-true", "model=mlp_dropout"],
    "bf16-true": ["trainer.precision=bf16-true", "optimizer=adamw"],
    "16-true": ["trainer.precision=16-true", "data=digits", "data.train_size=60"],
    "label smoothing": ["regularization=label_smoothing"],
    "perceptron": ["model=perceptron"],
}


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS)
def test_evaluation_repeats_the_numbers_of_training(overrides, launch, evaluation_of):
    run = launch(*overrides, "test=true", "optimizer.lr=0.5", "trainer.max_epochs=3")
    stored = run.result["metrics"]
    assert evaluation_of(run.folder, "split=test") == {name: stored[name] for name in ("test/loss", "test/acc")}
    assert evaluation_of(run.folder, "split=val")["val/acc"] == stored["best/val/acc"]


def test_the_test_set_of_a_run_that_another_process_writes_is_not_looked_at(run_folder, evaluation_of):
    def looks():
        return len(Record.read(run_folder).values["test_evaluations"])

    before, training = looks(), Record.read(run_folder)
    training.lock()
    with pytest.raises(ConfigError, match="is being written by another process"):
        evaluation_of(run_folder, "split=test")
    assert evaluation_of(run_folder, "split=val")
    training.release()
    assert looks() == before
    evaluation_of(run_folder, "split=test")
    evaluation_of(run_folder, "split=test")
    assert looks() == before + 2


def test_evaluation_of_the_last_checkpoint_repeats_the_last_validation(launch, evaluation_of):
    run = launch("data.batch_size=4", "trainer.max_epochs=8", "optimizer.lr=0.7")
    stored = run.result["metrics"]
    assert stored["val/acc"] < stored["best/val/acc"]  # so that the best and the last differ
    last = evaluation_of(run.folder, "split=val", "checkpoint=last")
    assert last == {name: stored[name] for name in ("val/loss", "val/acc")}


def test_the_training_split_is_evaluated_without_dropout_and_whole(launch, evaluation_of):
    run = launch("model=mlp_dropout", "data.batch_size=5", "trainer.limit_train_batches=2")
    model, data, _, _ = load_run(run.folder)
    dataset = data.datasets["train"]
    features, labels = data.source.features[dataset.indices], data.source.labels[dataset.indices]
    with torch.no_grad():
        logits = model.network(data.preprocess(features))[:, 0]
    values = evaluation_of(run.folder, "split=train")
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert values["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert values["train/acc"] == pytest.approx(((logits > 0) == labels).float().mean().item())


def test_evaluation_counts_looks_at_the_test_set_and_changes_nothing_else(run_folder, evaluation_of):
    def looks_and_everything_else():
        result = json.loads((run_folder / "result.json").read_text())
        files = {p: p.read_bytes() for p in run_folder.rglob("*") if p.is_file() and p.name != "result.json"}
        others = {key: value for key, value in result.items() if key not in ("test_evaluations", "digest")}
        return len(result["test_evaluations"]), (files, others)

    looks, others = looks_and_everything_else()
    assert looks == 1
    for overrides, count in ((["split=test"], 2), (["split=val"], 2), (["split=train"], 2), (["checkpoint=last"], 3)):
        evaluation_of(run_folder, *overrides)
        assert looks_and_everything_else() == (count, others)


def test_scores_are_printed_of_a_moved_run_too(run_folder, finished, capsys, evaluation_of):
    stored = {name: finished.metrics[name] for name in ("test/loss", "test/acc")}
    assert evaluation_of(run_folder) == stored
    source, *_, printed = capsys.readouterr().out.splitlines()
    assert source.startswith(f"{run_folder}/checkpoints/best.ckpt, saved after update ")
    assert source.endswith("; look 2 at the test set")
    loss, accuracy = stored["test/loss"], stored["test/acc"]
    assert re.split(r" +│ +", printed) == ["test (best checkpoint)", "4", f"{loss:.4g}", f"{accuracy:.2%}"]


# Several views of an image


@pytest.fixture(scope="module")
def run_of_images(launch_in, tmp_path_factory):
    overrides = ("data=digits", "data.train_size=60", "model.hidden_sizes=[32,16]", "optimizer=adam")
    mixed = ("data.augmentation.mixup=0.5", "data.augmentation.flip=0.5", "optimizer.lr=0.01", "trainer.max_epochs=20")
    return launch_in(tmp_path_factory.mktemp("images") / "run", ("callbacks=none", "logger=none", *overrides, *mixed))


@pytest.mark.parametrize(
    ("views", "seen"),
    [
        ("flip", [(0, 0, False), (0, 0, True)]),
        ("shift", [(0, 0, False), (1, 0, False), (-1, 0, False), (0, 1, False), (0, -1, False)]),
        ("flip_and_shift", [(down, right, mirrored) for mirrored in (False, True)
                            for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]),
    ],
)  # fmt: skip
def test_the_mean_over_views_stands_beside_the_plain_score(views, seen, run_of_images, capsys, evaluation_of):
    model, data, *_ = load_run(run_of_images.folder)
    dataset, logits = data.datasets["test"], []
    for down, right, mirrored in seen:
        images = torch.zeros_like(dataset.features[dataset.indices])  # black where a shift leaves nothing
        rows, columns = (slice(max(by, 0), 8 + min(by, 0)) for by in (down, right))
        from_rows, from_columns = (slice(max(-by, 0), 8 + min(-by, 0)) for by in (down, right))
        images[:, :, rows, columns] = dataset.features[dataset.indices][:, :, from_rows, from_columns]
        with torch.no_grad():
            logits.append(model.network(data.preprocess(images.flip(3) if mirrored else images)))
    mean, labels = torch.stack(logits).mean(dim=0), dataset.labels[dataset.indices]
    values = evaluation_of(run_of_images.folder, f"views={views}")
    assert values == evaluation_of(run_of_images.folder) | {
        f"test/{views}/loss": pytest.approx(torch.nn.functional.cross_entropy(mean, labels).item(), rel=1e-5),
        f"test/{views}/acc": pytest.approx((mean.argmax(dim=1) == labels).float().mean().item()),
    }
    assert f"the same, mean over views={views} │" in capsys.readouterr().out


def test_views_of_what_are_no_images_are_refused(run_folder, evaluation_of):
    with pytest.raises(ConfigError, match="views=flip needs images, and this run was trained on features"):
        evaluation_of(run_folder, "views=flip")
    assert len(json.loads((run_folder / "result.json").read_text())["test_evaluations"]) == 1


# Loading into a notebook


def test_a_loaded_run_gives_the_same_probabilities(finished):
    model, data, config, metrics = mlplab.load_run(finished.folder)
    assert not model.training
    assert metrics == finished.result["metrics"]
    assert config.model.hidden_sizes == [16, 8]
    features = data.preprocess(data.source.features)
    with torch.no_grad():
        ours, theirs = model.probabilities(features), finished.classifier.eval().probabilities(features)
    assert torch.equal(ours, theirs)  # after the test at its end, training holds the best weights
    assert ours.shape == (80, 2)


# Errors


def assert_refused(folder, *parts):
    with pytest.raises(ConfigError) as caught:
        load_run(folder)
    for part in parts:
        assert str(part) in str(caught.value)


@pytest.mark.parametrize("key", ["data", "model", "optimizer", "loss", "scheduler", "trainer", "seed"])
def test_a_config_with_a_fault_is_named(key, run_folder):
    config = OmegaConf.load(run_folder / "config.yaml")
    config.pop(key)
    if key == "seed":
        config.seed = -1
    Record.read(run_folder).write_config(OmegaConf.to_yaml(config))
    assert_refused(run_folder, run_folder / "config.yaml", key)


def test_a_config_of_another_architecture_is_named(run_folder):
    config = OmegaConf.load(run_folder / "config.yaml")
    config.model.hidden_sizes = [16, 9]
    Record.read(run_folder).write_config(OmegaConf.to_yaml(config))
    assert_refused(run_folder, run_folder / "checkpoints" / "best.ckpt", "does not fit the network")


def test_data_that_have_changed_since_training_are_not_evaluated(tmp_path, launch, evaluation_of):
    rows = [f"{number % 7},{number % 5},{'ab'[number % 7 > 3]}" for number in range(80)]
    (tmp_path / "points.csv").write_text("\n".join(["x,z,label", *rows]))
    run = launch("data=csv", f"data.path={tmp_path / 'points.csv'}", "data.label=label")
    assert evaluation_of(run.folder)
    (tmp_path / "points.csv").write_text("\n".join(["x,z,label", *rows[:-1], "70,1,b"]))
    with pytest.raises(ConfigError, match=r"the data are not those that .* was trained on: other mean, std; "):
        evaluation_of(run.folder)
    assert_refused(run.folder, "the data are not those")


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_without_samples_is_named(split, launch, evaluation_of):
    monitor = ["monitor=train/loss", "monitor_mode=min"] if split == "val" else []
    run = launch(f"data.{split}_fraction=0", *monitor)
    with pytest.raises(ConfigError, match=f"split={split}: this run has no samples in it"):
        evaluation_of(run.folder, f"split={split}")
    assert run.result["test_evaluations"] == []
