"""The estimate of the gradient's variance against an enumeration of all batches of a tiny data set."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from mlplab.callbacks.measure import GradientNoise
from mlplab.errors import ConfigError
from mlplab.runs import build

NUM_SAMPLES = 6
ONLY_NOISE = (
    "~callbacks.tensorboard", "~callbacks.update_monitor", "~callbacks.progress_bar",
    "test=false", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false",
)  # fmt: skip


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
def test_it_is_unbiased(batch_size, situation):
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


def test_the_exact_variance_falls_as_the_documentation_says(situation):
    trainer, model = situation(1)
    of_one = variance_of_all_batches(model, trainer.datamodule, 1)
    for batch_size in (2, 3, 5):
        expected = of_one / batch_size * (NUM_SAMPLES - batch_size) / (NUM_SAMPLES - 1)
        assert variance_of_all_batches(model, trainer.datamodule, batch_size) == pytest.approx(expected, rel=1e-4)


def test_the_full_batch_has_no_noise(situation):
    trainer, model = situation("full")
    assert GradientNoise().measure(trainer, model) == 0.0
    assert variance_of_all_batches(model, trainer.datamodule, NUM_SAMPLES) == 0.0


def test_measuring_leaves_everything_as_it_was(situation):
    trainer, model = situation(2, "model.normalization=batch")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    GradientNoise().measure(trainer, model)
    assert model.training
    assert all(module.training for module in model.network.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_measuring_twice_gives_the_same(situation):
    trainer, model = situation(2)
    assert GradientNoise().measure(trainer, model) == GradientNoise().measure(trainer, model)
    assert GradientNoise(seed=1).measure(trainer, model) != GradientNoise().measure(trainer, model)


def test_training_is_the_same_with_and_without_it(launch_full, launch, same_weights):
    settings = ("model=mlp_dropout", "data.batch_size=5", "test=false")
    noisy = launch_full(*ONLY_NOISE, *settings, "callbacks.gradient_noise.max_share=1", folder="with")
    assert same_weights(noisy.weights, launch(*settings, folder="without").weights)


@pytest.mark.parametrize(
    ("num_batches", "max_share", "expected"),
    [(4, 1.0, [4, 8, 12, 16, 20, 24]), (4, 0.5, [4, 12, 20]), (8, 0.5, [4, 20]), (8, 0.05, [4]), (5, 1.0, [4, 12, 20])],
)  # four updates an epoch
def test_it_keeps_to_its_share_of_the_gradients(num_batches, max_share, expected, launch_full, scalars):
    run = launch_full(
        *ONLY_NOISE, "data.batch_size=14", "trainer.max_epochs=6",
        f"callbacks.gradient_noise.num_batches={num_batches}", f"callbacks.gradient_noise.max_share={max_share}",
    )  # fmt: skip
    logged = scalars(run.folder)["grad/noise"]
    assert [step for step, _ in logged] == expected
    assert all(value > 0 for _, value in logged)


def test_it_keeps_to_its_share_when_validation_comes_several_times_an_epoch(launch_full, scalars):
    run = launch_full(
        *ONLY_NOISE, "data.batch_size=5", "++trainer.val_check_interval=4", "callbacks.gradient_noise.num_batches=3",
        "callbacks.gradient_noise.max_share=0.25",
    )  # fmt: skip
    assert len(scalars(run.folder)["grad/noise"]) == 2  # 3 gradients after every 12 updates


@pytest.mark.parametrize("options", [{"num_batches": 1}, {"max_share": 0.0}, {"max_share": 1.5}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=f"callbacks.gradient_noise.{next(iter(options))}"):
        GradientNoise(**options)
