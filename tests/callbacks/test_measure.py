"""What is measured of single updates, of the gradient's noise and of further splits, against its definition."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from mlplab.callbacks.history import HISTORY
from mlplab.callbacks.measure import GradientNoise, UpdateMonitor
from mlplab.report.frames import read_history
from mlplab.runs import build

QUIET = (
    "~callbacks.tensorboard", "~callbacks.progress_bar", "test=false", "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)  # fmt: skip
ONLY_MONITOR = (*QUIET, "~callbacks.gradient_noise", "data.batch_size=5")
ONLY_NOISE = (*QUIET, "~callbacks.update_monitor")

# Single updates


def by_hand(config, *, clip=None):
    """Loss before the update, gradient norm, and weight norm after it: one triple for each of 24 updates."""
    torch.manual_seed(config.seed)
    data = build.data_module(config)
    network = build.classifier(config, data).network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    values = []
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.batch_sampler.sampler.set_epoch(epoch)
        for group in loader:
            for batch in data.on_after_batch_transfer(group, 0):
                loss = F.binary_cross_entropy_with_logits(network(batch.features)[:, 0], batch.labels.float())
                optimizer.zero_grad()
                loss.backward()
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
                gradient = parameters_to_vector(weight.grad for weight in network.parameters())
                optimizer.step()
                weights = parameters_to_vector(network.parameters())
                values.append((loss.item(), gradient.norm().item(), weights.norm().item()))
    return values


@pytest.mark.parametrize(
    ("group_size", "clip", "steps"),
    [(1, "null", range(1, 25)), (1, 0.05, range(1, 25)), (5, "null", [5, 10, 12, 17, 22, 24])],
)
def test_a_group_reports_its_last_update_as_a_loop_computes_it(group_size, clip, steps, launch_full, scalars):
    run = launch_full(
        *ONLY_MONITOR, f"steps_per_execution={group_size}", "callbacks.update_monitor.every_n_updates=1",
        f"trainer.gradient_clip_val={clip}",
    )  # fmt: skip
    logged, expected = scalars(run.folder), by_hand(run.config, clip=None if clip == "null" else clip)
    for name, column in (("batch/loss", 0), ("grad/norm", 1), ("weights/l2_norm", 2)):
        assert logged[name] == [(step, pytest.approx(expected[step - 1][column], rel=1e-5)) for step in steps], name
    if clip != "null":
        assert max(value for _, value in logged["grad/norm"]) == pytest.approx(clip, rel=1e-4)


@pytest.mark.parametrize(
    ("group_size", "every", "expected"),
    [(1, 10, [1, 10, 20]), (1, 50, [1]), (4, 10, [4, 12, 20]), (12, 10, [12, 24])],
)
def test_it_logs_the_first_and_every_nth_update(group_size, every, expected, launch_full, scalars):
    run = launch_full(
        *ONLY_MONITOR, f"steps_per_execution={group_size}", f"callbacks.update_monitor.every_n_updates={every}"
    )
    assert [step for step, _ in scalars(run.folder)["lr"]] == expected


def test_on_other_devices_a_checkpoint_waits_for_what_is_not_written_yet():
    written, monitor = [], UpdateMonitor()
    logger = SimpleNamespace(log_metrics=lambda metrics, step: written.append((metrics, step)))
    monitor._unwritten = [(3, {"lr": torch.tensor(0.5)})]
    monitor.on_save_checkpoint(SimpleNamespace(loggers=[logger]), None, {})
    assert written == [({"lr": 0.5}, 3)]
    assert monitor._unwritten == []


# The noise of the gradient

NUM_SAMPLES = 6


@pytest.fixture
def situation(make_config):
    """A network with dropout at its first weights, and six training samples: a stand-in for the trainer, the model."""

    def make(batch_size, *overrides):
        config = make_config(
            f"data.train_size={NUM_SAMPLES}", f"data.batch_size={batch_size}", "model=mlp_dropout", *overrides
        )
        data = build.data_module(config)
        return SimpleNamespace(datamodule=data, global_step=0), build.classifier(config, data)

    return make


def gradient(model, data, positions):
    indices = data.datasets["train"].indices[list(positions)]
    model.eval()
    loss = model.loss(model.network(data.preprocess(data.source.features[indices])), data.source.labels[indices])
    return parameters_to_vector(torch.autograd.grad(loss, list(model.network.parameters()))).double()


def variance_of_all_batches(model, data, batch_size):
    gradients = [gradient(model, data, batch) for batch in itertools.combinations(range(NUM_SAMPLES), batch_size)]
    mean = torch.stack(gradients).mean(dim=0)
    return float(sum((part - mean).square().sum() for part in gradients) / len(gradients))


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_the_noise_is_estimated_without_bias(batch_size, situation):
    trainer, model = situation(batch_size)
    noise = GradientNoise(num_batches=4)
    measured = []
    for epoch in range(400):
        trainer.global_step = epoch  # another epoch draws other batches
        measured.append(noise.measure(trainer, model))
    exact = variance_of_all_batches(model, trainer.datamodule, batch_size)
    values = torch.tensor(measured, dtype=torch.float64)
    error = float(values.std() / len(values) ** 0.5)
    assert error < 0.06 * exact  # so that the next line says something
    assert abs(float(values.mean()) - exact) < 3.5 * error


def test_weights_that_nothing_uses_have_no_noise(situation):
    trainer, model = situation(2)
    noise = GradientNoise().measure(trainer, model)
    model.network.spare = torch.nn.Linear(3, 3)
    assert GradientNoise().measure(trainer, model) == noise > 0


def test_the_full_batch_has_no_noise(situation):
    assert GradientNoise().measure(*situation("full")) == 0.0


def test_training_is_the_same_with_and_without_the_noise(launch_full, launch, same_weights):
    settings = ("model=mlp_dropout", "data.batch_size=5", "test=false")
    noisy = launch_full(*ONLY_NOISE, *settings, "callbacks.gradient_noise.max_share=1", folder="with")
    assert same_weights(noisy.weights, launch(*settings, folder="without").weights)


EPOCHS = ("data.batch_size=14", "trainer.max_epochs=6")  # of four updates
SEVERAL = ("data.batch_size=5", "++trainer.val_check_interval=4")  # validations in an epoch, which has 12 updates


@pytest.mark.parametrize(
    ("validations", "num_batches", "max_share", "expected"),
    [(EPOCHS, 4, 1.0, [4, 8, 12, 16, 20, 24]), (EPOCHS, 4, 0.5, [4, 12, 20]), (EPOCHS, 8, 0.05, [4]),
     (EPOCHS, 5, 1.0, [4, 12, 20]), (SEVERAL, 3, 0.25, [4, 16])],
)  # fmt: skip
def test_the_noise_keeps_to_its_share(validations, num_batches, max_share, expected, launch_full, scalars):
    run = launch_full(
        *ONLY_NOISE, *validations,
        f"callbacks.gradient_noise.num_batches={num_batches}", f"callbacks.gradient_noise.max_share={max_share}",
    )  # fmt: skip
    logged = scalars(run.folder)["grad/noise"]
    assert [step for step, _ in logged] == expected
    assert all(value > 0 for _, value in logged)


# Curves of the test and training split


@pytest.fixture(scope="module")
def runs(tmp_path_factory, launch_in):
    """The same job with no curve, with that of the test set, and with that of the training set."""
    folder = tmp_path_factory.mktemp("curves")
    common = (
        "logger=none", "trainer.enable_progress_bar=false", "model=mlp_dropout", "data.batch_size=14",
        "trainer.max_epochs=3",
    )  # fmt: skip
    return {
        name: launch_in(folder / name, (f"callbacks={name}", *common)) for name in ("study", "study_fit", "study_test")
    }


@pytest.mark.parametrize("name", ["study_fit", "study_test"])
def test_training_is_the_same_with_a_curve_and_without(runs, name, same_weights):
    assert same_weights(runs[name].weights, runs["study"].weights)
    plain, with_curve = (read_history(runs[each].folder / HISTORY).drop(columns="seconds") for each in ("study", name))
    assert with_curve[plain.columns].equals(plain)


def test_every_look_at_the_test_set_is_counted(runs):
    looks = {name: len(run.result["test_evaluations"]) for name, run in runs.items()}
    assert looks == {"study": 1, "study_fit": 1, "study_test": 3 + 1}  # one for each validation, and the test


def test_the_test_curve_at_the_best_epoch_is_what_the_test_says(runs):
    rows, tested = read_history(runs["study_test"].folder / HISTORY), runs["study_test"].result["metrics"]
    best = rows.sort_values(["val/acc", "val/loss"], ascending=[False, True]).iloc[0]
    assert [best["test/loss"], best["test/acc"]] == pytest.approx([tested["test/loss"], tested["test/acc"]])


def test_the_training_curve_is_without_dropout(runs):
    """The last row is of the last weights; `train/acc` is another number: with dropout, and of the whole epoch."""
    run = runs["study_fit"]
    last, data = read_history(run.folder / HISTORY).iloc[-1], run.trainer.datamodule
    state = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    run.classifier.load_state_dict(state)
    run.classifier.eval()
    indices = data.datasets["train"].indices
    features, labels = data.preprocess(data.source.features[indices]), data.source.labels[indices]
    with torch.no_grad():
        correct = (run.classifier.probabilities(features).argmax(dim=1) == labels).double().mean()
        loss = run.classifier.loss(run.classifier(features), labels)
    assert last["fitted/acc"] == pytest.approx(correct.item())
    assert last["fitted/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert last["gap/fitted/acc"] == pytest.approx(correct.item() - last["val/acc"])
