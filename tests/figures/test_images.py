"""The images that are shown are those that the network gets most wrong, and those that it is given."""

from types import SimpleNamespace

import numpy as np
import torch

from mlplab.figures.images import extremes, first_layer, training_samples
from mlplab.runs import build

NAMES = ["a", "b", "c"]


def shown_images(figure, size):
    """The images of size × size pixels in a figure, in reading order, (size, size, 3) each: below their captions."""
    found = []
    for axes in figure.axes:
        pixels = np.asarray(axes.get_images()[0].get_array())[..., :3]
        for text in axes.texts:
            x, y = (round(place + 0.49) for place in text.get_position())
            found.append(pixels[y : y + size, x - size // 2 : x - size // 2 + size])
    return found


def test_mistakes_come_by_confidence_and_hits_by_doubt():
    """Image i is a flat grey of value i."""
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 4, 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted, confidence = torch.tensor([1, 0, 2, 1, 0, 2]), torch.tensor([0.5, 0.6, 0.9, 0.4, 0.7, 0.8])
    probabilities = torch.zeros(6, 3)
    probabilities[torch.arange(6), predicted] = confidence
    figure = extremes(images, labels, probabilities, class_names=NAMES, of="6 samples")
    assert [int(image[0, 0, 0]) for image in shown_images(figure, 4)] == [2, 4, 0, 3, 1, 5]
    mistakes, hits = figure.axes
    assert mistakes.get_title(loc="left").startswith("The most confident of 3 mistakes")
    assert [text.get_text() for text in mistakes.texts] == ["a\nc: 90%", "b\na: 70%", "a\nb: 50%"]
    assert hits.texts[0].get_text() == "b\nb: 40%"
    without_mistakes = extremes(images[:2], torch.tensor([0, 1]), torch.eye(3)[:2], class_names=NAMES, of="2 samples")
    assert len(shown_images(without_mistakes, 4)) == 2


def test_training_samples_are_augmented_as_training_is_served_with_them(make_config):
    data = build.data_module(make_config("data=digits", "data.train_size=40", "regularization=augmentation"))
    images = shown_images(training_samples(data), 8)
    assert len(images) == 32
    batch = next(iter(data.train_dataloader()))
    data.trainer = SimpleNamespace(training=True, current_epoch=0)
    served = data.on_after_batch_transfer(batch, 0)[0].features * data.std + data.mean  # 0 to 1
    for row in range(4):
        stored, first, second, *_ = images[8 * row : 8 * (row + 1)]
        assert np.array_equal(stored[..., 0], batch[0][row, 0])
        assert np.allclose(first[..., 0] / 255, served[row, 0], atol=1e-6)
        assert not np.array_equal(first, second)


def test_the_first_layer_is_scaled_unit_by_unit():
    """Red is positive, blue negative, and the strongest weight of each unit has the full colour."""
    weights = torch.tensor([[1.0, -2.0, 0.0, 0.5], [10.0, 0.0, 0.0, 20.0]])
    left, right = shown_images(first_layer(weights, shape=(1, 2, 2), unit_names=["left", "right"], when="now"), 2)
    for image, (y, x), channel in ((left, (0, 1), 2), (right, (1, 1), 0)):
        assert image[y, x].argmax() == channel
        assert image[y, x].sum() == min(pixel.sum() for pixel in image.reshape(-1, 3))
    assert np.array_equal(left[1, 0], right[1, 0])  # no weight: white
