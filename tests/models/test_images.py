"""What a network is told of images: frequencies against scipy's, Gabor filters against what is said of them."""

import pytest
import torch
from scipy.fft import dctn, idctn
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mlplab.errors import ConfigError
from mlplab.models.images import CosineTransform, gabor_filters
from mlplab.models.networks import ResidualMLP, SequentialMLP


def test_the_cosine_transform_is_scipys_and_has_an_inverse():
    images = torch.randn(4, 3, 5, 8)
    transform = CosineTransform(120)
    frequencies = transform(images)
    expected = torch.from_numpy(dctn(images.numpy(), axes=(2, 3), norm="ortho"))
    torch.testing.assert_close(frequencies, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(transform.inverse(frequencies.flatten(1), (3, 5, 8)), images, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [SequentialMLP, ResidualMLP])
def test_a_network_may_take_the_frequencies_of_images(network):
    images, plain, of_frequencies = torch.randn(4, 3, 5, 8), network(120, 3), network(120, 3, cosine_transform=True)
    vector_to_parameters(parameters_to_vector(plain.parameters()), of_frequencies.parameters())
    torch.testing.assert_close(of_frequencies(images), plain(CosineTransform(120)(images)))
    with pytest.raises(ConfigError, match=r"model\.cosine_transform needs images"):
        of_frequencies(images.flatten(1))


@pytest.mark.parametrize("network", [SequentialMLP, ResidualMLP])
def test_a_network_may_take_the_lowest_frequencies_of_square_images(network):
    images, of_lowest = torch.randn(4, 3, 8, 8), network(192, 3, cosine_transform=5)
    detail = torch.from_numpy(dctn(images.numpy(), axes=(2, 3), norm="ortho"))
    detail[:, :, :5, :5] = 0
    smooth = images - torch.from_numpy(idctn(detail.numpy(), axes=(2, 3), norm="ortho"))
    assert next(of_lowest.parameters()).shape[1] == 3 * 5 * 5
    torch.testing.assert_close(of_lowest(smooth), of_lowest(images), rtol=1e-4, atol=1e-5)
    transform = CosineTransform(192, 5)
    torch.testing.assert_close(transform.inverse(transform(images).flatten(1), (3, 8, 8)), smooth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_features", [2, 120, 16, 48])
def test_the_lowest_frequencies_are_of_square_images_that_have_as_many(num_features):
    with pytest.raises(ConfigError, match=f"cosine_transform=5 needs square images.*{num_features} features"):
        SequentialMLP(num_features, 3, cosine_transform=5)


def test_gabor_filters_are_waves_with_a_place_a_direction_and_a_colour():
    filters = gabor_filters(2000, 3, 32)
    greys = filters.mean(dim=1)
    energies = greys**2 / (greys**2).sum(dim=(1, 2), keepdim=True)  # where a filter looks
    place = torch.arange(32.0)
    down, right = energies.sum(dim=2) @ place, energies.sum(dim=1) @ place
    spread = (energies.sum(dim=2) * (place - down[:, None]) ** 2).sum(dim=1).sqrt()
    assert 14 < down.mean() < 17
    assert 14 < right.mean() < 17
    assert 7 < down.std() < 10.5  # 9.2 of places that are equally likely
    assert 7 < right.std() < 10.5
    assert 0.8 < spread.median() < 3  # σ is between 1.6 and 5.3 pixels, and energy falls as its square
    assert spread.max() < 7  # √1.5 σ, where a long wave is 0 at its place
    colours = filters.flatten(start_dim=2).norm(dim=2)  # each channel is the same wave, stronger or weaker
    torch.testing.assert_close(
        torch.linalg.matrix_norm(filters.flatten(start_dim=2), 2), colours.norm(dim=1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("transform", [False, True, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_begins_as_gabor_filters(channels, transform):
    num_features = channels * 64
    torch.manual_seed(0)
    plain = SequentialMLP(num_features, 5, hidden_sizes=[400, 7], cosine_transform=transform)
    torch.manual_seed(0)
    network = SequentialMLP(num_features, 5, hidden_sizes=[400, 7], cosine_transform=transform, gabor_filters=True)
    (weight, *others), (usual, *usual_others) = (
        [layer.weight for layer in net.modules() if isinstance(layer, nn.Linear)] for net in (network, plain)
    )
    torch.testing.assert_close(weight.norm(dim=1), torch.full((400,), 2**0.5))
    for ours, theirs in zip(others, usual_others, strict=True):
        assert torch.equal(ours, theirs)
    begun, usual = (as_images(weights, transform, channels) for weights in (weight, usual))
    assert near_by(begun) > 3 * near_by(usual)


def as_images(weight, transform, channels):
    if transform:
        weight = CosineTransform(channels * 64, transform).inverse(weight, (channels, 8, 8))
    return weight.view(-1, channels, 8, 8)


def near_by(images):
    """The largest share of a filter's energy in a window of 4 × 4 of 8 × 8 pixels, above the quarter of even energy."""
    energies = images.pow(2).sum(dim=1, keepdim=True)
    windows = nn.functional.avg_pool2d(energies, kernel_size=4, stride=1) * 16
    return ((windows.amax(dim=(1, 2, 3)) / energies.sum(dim=(1, 2, 3))).median() - 0.25).item()


@pytest.mark.parametrize("num_features", [2, 120, 6])
def test_gabor_filters_are_of_square_images(num_features):
    with pytest.raises(ConfigError, match=f"gabor_filters=true needs square images.*colours; .* {num_features} feat"):
        SequentialMLP(num_features, 3, gabor_filters=True)
