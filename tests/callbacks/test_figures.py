"""Which figures a run has, when they are drawn, and that it trains the same with and without them."""

import matplotlib.image
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlplab.runs import train as training

ONLY_FIGURES = (
    "figures=default", "~callbacks.tensorboard", "~callbacks.gradient_noise", "~callbacks.progress_bar",
    "~callbacks.update_monitor", "trainer.enable_progress_bar=false", "test=false",
)  # fmt: skip
ALWAYS = {"learning_curves", "optimization", "layers", "weights", "confusion", "calibration"}
TWO_CLASSES_OF_TWO_FEATURES = ALWAYS | {"decision_boundary", "precision_recall"}


def images_of(folder):
    """Name → [(step, PNG), …] in the event files."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    return {
        tag.removeprefix("figures/"): [(image.step, image.encoded_image_string) for image in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


def names(folder):
    return {path.stem for path in (folder / "figures").iterdir()}


def test_two_features_have_these_figures_none_of_them_blank(finished):
    assert names(finished.folder) == TWO_CLASSES_OF_TWO_FEATURES
    for path in (finished.folder / "figures").iterdir():
        image = matplotlib.image.imread(path)[..., :3]
        assert min(image.shape[:2]) > 200, path
        assert image.std() > 0.05, path
        assert len(np.unique((image * 255).astype(int).reshape(-1, 3), axis=0)) > 50, path


def test_tensorboard_has_the_same_images_at_the_last_update_and_steps_to_it(finished):
    images = images_of(finished.folder)
    assert set(images) == TWO_CLASSES_OF_TWO_FEATURES
    for name, shown in images.items():
        assert shown[-1] == (16, (finished.folder / "figures" / f"{name}.png").read_bytes())
    assert [step for step, _ in images["decision_boundary"]] == [4, 8, 12, 16]


def test_images_have_figures_of_images(launch_full):
    run = launch_full(*ONLY_FIGURES, "data=digits", "data.train_size=40", "trainer.max_epochs=1")
    assert names(run.folder) == ALWAYS | {"training_samples", "first_layer", "extremes"}


def test_without_validation_samples_there_is_what_needs_none(launch_full):
    run = launch_full(*ONLY_FIGURES, "data.val_fraction=0", "monitor=train/loss", "monitor_mode=min")
    assert names(run.folder) == {"learning_curves", "optimization", "layers", "weights", "decision_boundary"}


def test_a_perceptron_is_not_sure_of_anything(launch_full):
    run = launch_full(*ONLY_FIGURES, "model=perceptron", "trainer.max_epochs=1")
    assert names(run.folder) == TWO_CLASSES_OF_TWO_FEATURES - {"calibration", "precision_recall"}


@pytest.mark.parametrize("override", ["figures=none", "~callbacks.figures", "callbacks.figures.at_end=false"])
def test_without_figures_there_is_no_folder(override, launch_full):
    assert not (launch_full(*ONLY_FIGURES[1:], override, "trainer.max_epochs=1").folder / "figures").exists()


def test_weights_are_the_same_with_and_without_figures(launch_full, same_weights):
    """Dropout and shuffling draw random numbers; looking at the network must not."""
    options = (*ONLY_FIGURES[1:], "model=mlp_dropout", "optimizer=momentum")
    with_figures = launch_full(*options, "figures=every_epoch", folder="with")
    without = launch_full(*options, "figures=none", "~callbacks.layers", folder="without")
    assert same_weights(with_figures.weights, without.weights)
    assert with_figures.metrics == without.metrics


def test_a_figure_that_fails_does_not_end_the_run(launch_full, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("no such font")

    monkeypatch.setattr("mlplab.figures.curves.optimization", fail)
    run = launch_full(*ONLY_FIGURES, "trainer.max_epochs=1")
    assert run.result["status"] == "finished"
    assert names(run.folder) == TWO_CLASSES_OF_TWO_FEATURES - {"optimization"}
    assert "figure optimization could not be drawn: no such font" in caplog.text


def test_a_run_that_goes_on_shows_every_look_once(launch_full):
    run = launch_full(*ONLY_FIGURES, "figures=every_epoch")
    training.resume(run.folder, overrides=["trainer.max_epochs=4"])
    assert [step for step, _ in images_of(run.folder)["decision_boundary"]] == [2, 4, 6, 8]


def test_early_stopping_and_the_best_epoch_are_in_the_curves(launch_full, monkeypatch):
    drawn = {}
    monkeypatch.setattr("mlplab.figures.curves.learning_curves", lambda rows, **marks: drawn.update(marks))
    stopping = ("regularization=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9")
    launch_full(*ONLY_FIGURES, *stopping, "trainer.max_epochs=9")
    assert drawn == {"best_epoch": 1.0, "stopped_early": True}
