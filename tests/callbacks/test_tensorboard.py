"""What a run adds to TensorBoard beside its scalars, read back from the event files."""

import os
import signal
import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

from mlplab.callbacks import tensorboard as extras
from mlplab.callbacks.tensorboard import FINAL_METRICS, OVERLAID
from mlplab.models.classifier import Classifier
from mlplab.runs import train as training
from mlplab.signals import Stopped

ONLY_BOARD = (
    "~callbacks.gradient_noise", "~callbacks.progress_bar", "~callbacks.update_monitor",
    "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "trainer.max_epochs=1",
)  # fmt: skip


def events_of(folder):
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0, "images": 0}).Reload()


def test_events_are_written_without_threads(tmp_path):
    """Where this fails, a new tensorboard has moved the private name that `AtOnce` stands for."""
    writer = extras.FileWriter(str(tmp_path / "tensorboard"))
    for step in range(3):
        writer.add_summary(extras.scalars({"loss": float(step)}), step)
    writer.flush()
    assert [event.value for event in events_of(tmp_path).Scalars("loss")] == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if "Writer" in type(thread).__name__]
    writer.close()


def hyperparameters_of(folder):
    """The run's line in the HParams tab: name → (type, value)."""
    metadata = events_of(folder).summary_metadata["_hparams_/session_start_info"]
    entries = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    return {
        name: (value.WhichOneof("kind"), getattr(value, value.WhichOneof("kind"))) for name, value in entries.items()
    }


@pytest.mark.parametrize(
    "overrides",
    [["model=mlp_residual"], ["model=mlp_dropout", "model.normalization=batch"], ["data=digits", "data.train_size=40"],
     ["model=perceptron"]], ids=" ".join,
)  # fmt: skip
def test_every_network_has_a_graph_that_names_its_layers(overrides, launch_full):
    run = launch_full(*ONLY_BOARD, *overrides)
    nodes = " ".join(node.name for node in events_of(run.folder).Graph().node)
    assert [name for name in run.weights if name.rpartition(".")[0].partition(".")[0] not in nodes] == []


def test_all_layers_share_a_chart(finished):
    (event,) = events_of(finished.folder).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["dead ReLUs"] == ["dead_relus/.*"]


def test_the_first_chart_of_all_has_training_and_validation_in_one(finished, scalars):
    whole = scalars(finished.folder)
    for split in ("train", "val"):
        overlaid = scalars(finished.folder, split)
        assert overlaid == {chart: whole[f"{split}/{metric}"] for chart, metric in OVERLAID.items()}
        assert len(overlaid) == 2
    assert min(whole) > max(OVERLAID)  # TensorBoard shows tags in alphabetical order


def test_hyperparameters_are_the_values_of_the_run_beside_its_final_metrics(finished):
    metadata = events_of(finished.folder).summary_metadata["_hparams_/experiment"]
    experiment = HParamsPluginData.FromString(metadata.plugin_data.content).experiment
    assert {info.name.tag for info in experiment.metric_infos} == set(FINAL_METRICS)
    columns = hyperparameters_of(finished.folder)
    numbers = {"batch_size": 16, "updates_per_epoch": 4, "train_size": 56, "lr": 0.1, "dropout": 0.0, "seed": 0}
    assert {name: columns[name] for name in numbers} == {name: ("number_value", n) for name, n in numbers.items()}
    assert columns["hidden_sizes"] == ("string_value", "[16, 8]")


VARIANTS = [
    ["model=mlp"], ["model=mlp_dropout", "model.dropout=0.5"], ["model=mlp_dropout", "model.dropout=[0.2,0.5]"],
    ["model=perceptron"], ["model=mlp_residual"], ["batching=full_batch", "seed=null"], ["optimizer.lr=1"],
    ["regularization=label_smoothing"], ["optimizer=momentum", "scheduler=plateau"],
]  # fmt: skip


def test_runs_of_a_comparison_have_the_same_columns_of_the_same_types(launch):
    runs = [
        launch("logger=tensorboard", "trainer.max_epochs=1", *overrides, folder=str(index)).folder
        for index, overrides in enumerate(VARIANTS)
    ]
    first, *others = ({name: kind for name, (kind, _) in hyperparameters_of(run).items()} for run in runs)
    assert all(columns == first for columns in others)
    typed = ["model=mlp_dropout", "model.dropout=0.5", "data.batch_size=8", "trainer.max_epochs=1"]
    columns = hyperparameters_of(launch("logger=tensorboard", *typed, overrides=typed, folder="typed").folder)
    assert "data.batch_size" not in columns  # it is batch_size
    assert [columns[name] for name in ("batch_size", "model", "model.dropout", "trainer.max_epochs")] == [
        ("number_value", 8), ("string_value", "mlp_dropout"), ("string_value", "0.5"), ("string_value", "1")
    ]  # fmt: skip
    values = [hyperparameters_of(run) for run in runs]
    assert [columns["dropout"][1] for columns in values[:4]] == pytest.approx([0.0, 0.5, 0.35, 0.0])
    assert all(value not in (None, "None") for columns in values for _, value in columns.values())


def test_a_network_that_cannot_be_traced_still_trains(launch_full, monkeypatch, caplog):
    from torch.utils.tensorboard import SummaryWriter

    def fail(*arguments):
        raise RuntimeError("cannot trace this\nat all")

    monkeypatch.setattr(SummaryWriter, "add_graph", fail)
    with caplog.at_level("INFO"):
        run = launch_full(*ONLY_BOARD)
    assert run.result["status"] == "finished"
    assert "no graph in TensorBoard: cannot trace this" in caplog.text


# Every tag once per step


def logged(folder):
    """(folder, tag, step) of all that event files hold, as often as it is there; and all scalars."""
    entries, numbers = [], []
    for path in sorted((folder / "tensorboard").rglob("events*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                entries.append((path.parent.name, value.tag, event.step))
                if value.metadata.plugin_data.plugin_name == "scalars":
                    numbers.extend(tensor_util.make_ndarray(value.tensor).flatten().tolist())
    return entries, numbers


def projector_files(folder):
    return sorted(str(path.relative_to(folder)) for path in (folder / "tensorboard").rglob("*.*sv"))


def test_everything_is_there_once_also_after_a_resume(launch_full, monkeypatch):
    """A run that is terminated within its third epoch and continued, against one that is not."""
    options = ("figures=default", "data.batch_size=8", "trainer.max_epochs=4", "checkpoint.max_share=1")
    whole = launch_full(*options, folder="whole")
    step = Classifier.training_step

    def training_step(self, batches, batch_idx):
        if self.trainer.global_step == 14:
            monkeypatch.undo()
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batches, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", training_step)
    with pytest.raises(Stopped):
        launch_full(*options, folder="broken")
    broken = whole.folder.with_name("broken")
    training.resume(broken)
    for folder in (whole.folder, broken):
        entries, numbers = logged(folder)
        assert [entry for entry, count in Counter(entries).items() if count > 1] == []
        assert np.isfinite(numbers).all()
        assert (folder / "tensorboard" / "projector_config.pbtxt").read_text().count("embeddings") == 1
    assert set(logged(broken)[0]) == set(logged(whole.folder)[0])
    assert projector_files(broken) == projector_files(whole.folder)


# Texts and the projector


def text_of(folder, name):
    (event,) = events_of(folder).Tensors(f"{name}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_texts_say_what_was_run_on_what_and_what_came_out(finished):
    assert "max_epochs: 4" in text_of(finished.folder, "config")
    assert "(linear_1): Linear(in_features=2, out_features=16, bias=True)" in text_of(finished.folder, "model")
    assert "56 train, 12 val, 12 test samples of (2,): fail, pass" in text_of(finished.folder, "data")
    assert f"| test/acc | {finished.metrics['test/acc']:.4f} |" in text_of(finished.folder, "result")
    assert text_of(finished.folder, "command").strip()


def test_the_projector_has_the_last_hidden_layer_of_validation_samples(finished):
    folder, data = finished.folder / "tensorboard" / "00000" / "last_hidden_layer", finished.trainer.datamodule
    values = np.loadtxt(folder / "tensors.tsv")
    header, *rows = (folder / "metadata.tsv").read_text().splitlines()
    assert values.shape == (12, 8)
    assert header == "class\tpredicted\tright\tconfidence"
    labels = data.source.labels[data.datasets["val"].indices]
    assert [row.split("\t")[0] for row in rows] == [data.source.class_names[label] for label in labels]


@pytest.mark.parametrize("size", [(40, 12), (4, 400), (1, 1)], ids=str)
def test_images_of_any_shape_end_a_run_with_all_their_pictures(size, launch_full, tmp_path, caplog):
    for number in range(20):
        path = tmp_path / "tree" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 12 * number, dtype=np.uint8)).save(path)
    root = f"data.root={tmp_path / 'tree'}"
    run = launch_full("figures=default", "data=image_folder", root, "data.cache=false", "data.batch_size=8")
    assert run.result["status"] == "finished"
    assert "could not be drawn" not in caplog.text
    assert (run.folder / "tensorboard/00000/last_hidden_layer/sprite.png").exists()
    assert {"first_layer", "training_samples", "extremes"} <= {path.stem for path in (run.folder / "figures").iterdir()}


def test_a_projector_that_fails_does_not_end_the_run(launch_full, monkeypatch, caplog):
    monkeypatch.setattr(extras, "write_embedding", lambda *_, **__: 1 / 0)
    assert launch_full(*ONLY_BOARD).result["status"] == "finished"
    assert "the projector could not be drawn: division by zero" in caplog.text
