"""What a run adds to TensorBoard beside its scalars, read back from the event files."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mlplab.callbacks.tensorboard import FINAL_METRICS, LAYOUT

ONLY_BOARD = (
    "~callbacks.figures", "~callbacks.gradient_noise", "~callbacks.progress_bar", "~callbacks.update_monitor",
    "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "trainer.max_epochs=1",
)  # fmt: skip


def events_of(folder):
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0, "images": 0}).Reload()


def hyperparameters_of(folder):
    """The run's line in the HParams tab: name → (type, value)."""
    metadata = events_of(folder).summary_metadata["_hparams_/session_start_info"]
    entries = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    return {
        name: (value.WhichOneof("kind"), getattr(value, value.WhichOneof("kind"))) for name, value in entries.items()
    }


def test_the_graph_names_the_layers(finished):
    nodes = {node.name for node in events_of(finished.folder).Graph().node}
    for layer in ("linear_1", "linear_2", "linear_out"):
        assert any(layer in name for name in nodes), layer


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp_residual"],
        ["model=mlp_dropout", "model.normalization=batch"],
        ["data=digits", "data.train_size=40"],
        ["model=perceptron"],
    ],
    ids=" ".join,
)
def test_every_network_has_a_graph(overrides, launch_full):
    assert events_of(launch_full(*ONLY_BOARD, *overrides).folder).Graph().node


def test_training_and_validation_share_a_chart(finished):
    (event,) = events_of(finished.folder).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["loss"] == ["train/loss", "val/loss"]
    assert charts["accuracy"] == ["train/acc", "val/acc"]


def test_every_metric_of_the_layout_and_of_the_hyperparameters_is_logged(finished, scalars):
    logged = set(scalars(finished.folder))
    shown = {tag for charts in LAYOUT.values() for _, tags in charts.values() for tag in tags}
    assert shown <= logged
    assert set(FINAL_METRICS) <= logged


def test_hyperparameters_name_the_final_metrics(finished):
    metadata = events_of(finished.folder).summary_metadata["_hparams_/experiment"]
    experiment = HParamsPluginData.FromString(metadata.plugin_data.content).experiment
    assert {info.name.tag for info in experiment.metric_infos} == set(FINAL_METRICS)


def test_hyperparameters_are_the_values_of_the_run(finished):
    columns = hyperparameters_of(finished.folder)
    assert columns["batch_size"] == ("number_value", 16)
    assert columns["updates_per_epoch"] == ("number_value", 4)
    assert columns["train_size"] == ("number_value", 56)
    assert columns["lr"] == ("number_value", 0.1)
    assert columns["dropout"] == ("number_value", 0.0)
    assert columns["hidden_sizes"] == ("string_value", "[16, 8]")
    assert columns["seed"] == ("number_value", 0)


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
    values = [hyperparameters_of(run) for run in runs]
    assert [columns["dropout"][1] for columns in values[:4]] == pytest.approx([0.0, 0.5, 0.35, 0.0])
    assert all(value not in (None, "None") for columns in values for _, value in columns.values())


def test_the_test_at_the_end_goes_to_the_same_version(launch_full):
    run = launch_full(*ONLY_BOARD)
    assert [path.name for path in run.folder.iterdir() if path.is_dir() and list(path.glob("events*"))] == [
        "tensorboard"
    ]


def test_a_network_that_cannot_be_traced_still_trains(launch_full, monkeypatch, caplog):
    from torch.utils.tensorboard import SummaryWriter

    def fail(*arguments):
        raise RuntimeError("cannot trace this\nat all")

    monkeypatch.setattr(SummaryWriter, "add_graph", fail)
    with caplog.at_level("INFO"):
        run = launch_full(*ONLY_BOARD)
    assert run.result["status"] == "finished"
    assert "no graph in TensorBoard: cannot trace this" in caplog.text
