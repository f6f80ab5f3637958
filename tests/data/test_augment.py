"""Augmentation against NumPy and torch.rot90, and one sample at a time against whole batches."""

import numpy as np
import pytest
import torch

from mlplab.data.augment import NUM_UNIFORMS, Augmentation, rotate, shift
from mlplab.data.loader import Batch


def images(num=12, channels=3, height=6, width=6):
    return torch.randint(1, 256, (num, channels, height, width), dtype=torch.uint8)


def uniforms(num=12):
    return torch.rand(num, NUM_UNIFORMS)


def shifted(image, down, right):
    """Moved by whole pixels with np.roll, the rows and columns that come in from the other side set to 0."""
    moved = np.roll(image.numpy(), (down, right), axis=(1, 2))
    height, width = moved.shape[1:]
    moved[:, : max(down, 0)] = 0
    moved[:, height + min(down, 0) :] = 0
    moved[:, :, : max(right, 0)] = 0
    moved[:, :, width + min(right, 0) :] = 0
    return torch.from_numpy(moved)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 6, 6), (1, 5, 9), (4, 9, 5), (2, 1, 7)])
@pytest.mark.parametrize("reach", [1, 3, 10])
def test_shift_is_roll_with_zeros(channels, height, width, reach):
    batch = images(40, channels, height, width)
    down, right = torch.randint(-reach, reach + 1, (2, 40))
    down[:4], right[:4] = torch.tensor([reach, reach, -reach, -reach]), torch.tensor([reach, -reach, reach, -reach])
    result = shift(batch, down, right, reach=reach)
    for image, d, r, moved in zip(batch, down.tolist(), right.tolist(), result, strict=True):
        d, r = (max(-size, min(size, by)) for size, by in ((height, d), (width, r)))  # further out is as black
        assert torch.equal(moved, shifted(image, d, r))


def test_flip_always_and_never():
    batch, numbers = images(), uniforms()
    assert torch.equal(Augmentation(flip=1)(batch, numbers), batch.flip(3))
    assert torch.equal(Augmentation(flip=0, crop=1)(batch, torch.full((12, NUM_UNIFORMS), 0.5)), batch)


def test_flip_has_its_probability():
    batch = images(4000, 1, 2, 2)
    batch[..., 0], batch[..., 1] = 1, 2
    flipped = Augmentation(flip=0.3)(batch, uniforms(4000))[:, 0, 0, 0] == 2
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.03)


def offsets(augmentation, num=4000):
    """(down, right) of a single white pixel in the middle of a black image, for many samples."""
    batch = torch.zeros(num, 1, 21, 41, dtype=torch.uint8)
    batch[:, :, 10, 20] = 255
    where = augmentation(batch, uniforms(num)).nonzero()
    assert len(where) == num
    return where[:, 2] - 10, where[:, 3] - 20


def test_crop_moves_by_every_pixel_count_equally_often_down_and_right_apart():
    down, right = offsets(Augmentation(crop=2))
    counts = torch.bincount(5 * (down + 2) + right + 2)
    assert len(counts) == 25
    assert (counts / 4000 - 0.04).abs().max() < 0.02


def test_crop_and_translation_add_up():
    down, right = offsets(Augmentation(crop=1, translate=0.1))
    assert (down.min(), down.max(), right.min(), right.max()) == (-3, 3, -5, 5)
    # Drawn apart: the largest of 3 × 5 and of 3 × 9 sums is one case of so many.
    assert (down == 3).float().mean().item() == pytest.approx(1 / 15, abs=0.015)
    assert (right == 5).float().mean().item() == pytest.approx(1 / 27, abs=0.015)


def test_the_largest_uniform_number_stays_within_reach():
    almost_one = torch.full((1, NUM_UNIFORMS), torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item())
    batch = images(1)
    assert torch.equal(Augmentation(crop=2)(batch, almost_one)[0], shifted(batch[0], 2, 2))


@pytest.mark.parametrize(("height", "width"), [(2, 2), (5, 5), (28, 28), (5, 9), (9, 5)])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_are_rot90(height, width, quarters):
    if quarters % 2:
        width = height  # of the others only the middle stays in the image: see below
    batch = images(4, 3, height, width)
    turned = rotate(batch, torch.full((4,), 90.0 * quarters))
    assert torch.equal(turned, torch.rot90(batch, quarters, dims=(2, 3)))


def test_rotation_stays_within_its_angle_and_uses_both_directions():
    batch = torch.zeros(500, 1, 41, 41, dtype=torch.uint8)
    batch[:, :, 20, 38:] = 255  # a mark on the right, 18 pixels from the centre
    turned = Augmentation(rotate=30)(batch, uniforms(500)).float()
    rows, columns = torch.arange(41.0)[:, None] - 20, torch.arange(41.0) - 20
    mass = turned.sum(dim=(1, 2, 3))
    angles = torch.atan2(-(turned[:, 0] * rows).sum(dim=(1, 2)) / mass, (turned[:, 0] * columns).sum(dim=(1, 2)) / mass)
    angles = torch.rad2deg(angles)
    assert angles.abs().max() < 31
    assert angles.min() < -25
    assert angles.max() > 25
    assert angles.mean().abs() < 2


@pytest.mark.parametrize(
    "options", [{"flip": 0.5}, {"crop": 2}, {"translate": 0.4}, {"rotate": 40}, {"flip": 0.5, "crop": 1, "rotate": 10}]
)
def test_every_sample_is_drawn_by_itself(options):
    augmentation, numbers = Augmentation(**options), uniforms()
    same_image = images(1).expand(12, -1, -1, -1)
    batch = augmentation(same_image, numbers)
    assert len(batch.flatten(1).unique(dim=0)) > 1
    one_by_one = [augmentation(same_image[i : i + 1], numbers[i : i + 1]) for i in range(12)]
    assert torch.equal(batch, torch.cat(one_by_one))


def test_augmentation_keeps_shape_type_its_input_and_the_global_random_state():
    batch, numbers = images(12, 3, 5, 9), uniforms()
    before, state = batch.clone(), torch.get_rng_state()
    result = Augmentation(flip=0.5, crop=2, translate=0.2, rotate=20)(batch, numbers)
    assert (result.shape, result.dtype) == (batch.shape, torch.uint8)
    assert torch.equal(batch, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_mixup_is_the_formula_of_neighbours_and_leaves_each_its_larger_share():
    features, labels, numbers = torch.randn(12, 3, 5, 9), torch.randint(0, 4, (12,)), uniforms()
    mixed = Augmentation(mixup=0.5).mix(Batch(features, labels), numbers, num_classes=4)
    for i in range(12):
        share = 0.5 * numbers[i, -1]
        torch.testing.assert_close(mixed.features[i], (1 - share) * features[i] + share * features[i - 1])
        expected = torch.zeros(4)
        expected[labels[i]] += 1 - share
        expected[labels[i - 1]] += share
        torch.testing.assert_close(mixed.labels[i], expected)
    assert torch.equal(mixed.labels.argmax(dim=1), labels)
