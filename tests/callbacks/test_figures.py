"""The figures show what they claim to show."""

import matplotlib.image
import numpy as np
import pytest
import torch

from mlplab.callbacks.figures import decision_boundary, learning_curves

ONLY_FIGURES = (
    "~callbacks.tensorboard", "~callbacks.gradient_noise", "~callbacks.progress_bar", "~callbacks.update_monitor",
    "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "test=false",
)  # fmt: skip
HISTORY = {
    "epoch": [1.0, 2.0, 3.0],
    "updates": [4, 8, 12],
    "train/loss": [0.9, 0.5, 0.3],
    "val/loss": [1.0, 0.7, 0.8],
    "train/acc": [0.5, 0.7, 0.9],
    "val/acc": [0.4, 0.8, 0.6],
}
ROWS = [dict(zip(HISTORY, values, strict=True)) for values in zip(*HISTORY.values(), strict=True)]


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def pixels(path):
    return matplotlib.image.imread(path)[..., :3]


def test_learning_curves_plot_the_history():
    loss, accuracy = learning_curves(ROWS).axes
    assert lines(loss)["training"] == (HISTORY["epoch"], HISTORY["train/loss"])
    assert lines(loss)["validation"] == (HISTORY["epoch"], HISTORY["val/loss"])
    assert lines(accuracy)["training"] == (HISTORY["epoch"], HISTORY["train/acc"])
    assert lines(accuracy)["validation"] == (HISTORY["epoch"], HISTORY["val/acc"])
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    assert {text.get_text() for text in loss.get_legend().get_texts()} >= {"training", "validation"}


def test_learning_curves_mark_the_epoch_of_the_best_validation_accuracy():
    for axes in learning_curves(ROWS).axes:
        assert lines(axes)["best validation accuracy"][0] == [2.0, 2.0]


@pytest.mark.parametrize("name", ["learning_curves", "decision_boundary"])
def test_png_files_are_not_blank(name, finished):
    image = pixels(finished.folder / "figures" / f"{name}.png")
    assert min(image.shape[:2]) > 200
    assert image.std() > 0.05
    assert len(np.unique((image * 255).astype(int).reshape(-1, 3), axis=0)) > 50


def test_figures_are_in_tensorboard_too(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    for name in ("learning_curves", "decision_boundary"):
        (image,) = events.Images(name)
        assert image.step == 16
        assert image.encoded_image_string.startswith(b"\x89PNG")


def test_images_have_no_decision_boundary(launch_full):
    run = launch_full(*ONLY_FIGURES, "data=digits", "data.train_size=40", "trainer.max_epochs=1")
    assert [path.name for path in (run.folder / "figures").iterdir()] == ["learning_curves.png"]


def test_a_run_without_validation_has_the_curves_of_training(launch_full):
    run = launch_full(*ONLY_FIGURES, "data.val_fraction=0", "monitor=train/loss", "monitor_mode=min")
    assert (run.folder / "figures" / "learning_curves.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "classes"), [(["data=passing"], 2), (["data=moons"], 2), (["data=spirals", "data.num_samples=90"], 3)]
)
def test_the_decision_boundary_shows_the_network_at_every_point(overrides, classes, launch):
    run = launch(*overrides, "trainer.max_epochs=1", "optimizer.lr=0.5", "model=mlp_dropout")
    data, model = run.trainer.datamodule, run.classifier.train()
    figure = decision_boundary(model, data, resolution=30)
    assert model.training
    axes = figure.axes[0]
    (image,) = axes.get_images()
    shown = np.asarray(image.get_array())  # (y, x)
    assert shown.shape == (30, 30)
    left, right, bottom, top = image.get_extent()
    points = torch.tensor(
        [[x, y] for y in np.linspace(bottom, top, 30) for x in np.linspace(left, right, 30)], dtype=torch.float32
    )
    with torch.no_grad():
        probabilities = model.eval().probabilities(data.preprocess(points)).reshape(30, 30, classes)
    expected = probabilities[..., 1] if classes == 2 else probabilities.argmax(dim=2)
    assert np.allclose(shown, expected.numpy(), atol=1e-5)
    assert image.origin == "lower"


def test_the_decision_boundary_shows_training_and_validation_but_not_test_samples(launch):
    run = launch("trainer.max_epochs=1")
    data = run.trainer.datamodule
    train, val = decision_boundary(run.classifier, data, resolution=5).axes[0].collections
    assert (train.get_label(), val.get_label()) == ("training", "validation")
    for collection, split in ((train, "train"), (val, "val")):
        indices = data.datasets[split].indices
        assert np.allclose(collection.get_offsets(), data.source.features[indices].numpy())
        assert np.allclose(collection.get_array(), data.source.labels[indices].numpy())


def test_axes_have_the_names_of_the_features(launch):
    run = launch("trainer.max_epochs=1")
    axes = decision_boundary(run.classifier, run.trainer.datamodule, resolution=5).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lectures attended", "hours on the final project")
