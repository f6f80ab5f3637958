"""The images that are shown are those that the network gets most wrong, and those that it is given."""

import numpy as np
import torch

from mlplab.figures.images import extremes, training_samples
from mlplab.runs import build

NAMES = ["a", "b", "c"]


def shown_images(figure):
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]


def test_mistakes_come_by_confidence_and_hits_by_doubt():
    """Image i is a flat grey of value i."""
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 4, 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted, confidence = torch.tensor([1, 0, 2, 1, 0, 2]), torch.tensor([0.5, 0.6, 0.9, 0.4, 0.7, 0.8])
    probabilities = torch.zeros(6, 3)
    probabilities[torch.arange(6), predicted] = confidence
    figure = extremes(images, labels, probabilities, class_names=NAMES)
    assert [int(image[0, 0]) for image in shown_images(figure)] == [2, 4, 0, 3, 1, 5]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0].startswith("The most confident of 3 mistakes")
    assert texts[1:3] == ["a\nc: 90%", "b\na: 70%"]
    assert "b\nb: 40%" in texts


def test_without_mistakes_there_are_the_hits():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    figure = extremes(images, torch.tensor([0, 1]), torch.eye(3)[:2], class_names=NAMES)
    assert len(shown_images(figure)) == 2


def test_training_samples_are_augmented_as_training_augments_them(make_config):
    config = make_config("data=digits", "data.train_size=40", "regularization=augmentation")
    data = build.data_module(config)
    loader = data.train_dataloader()
    images = shown_images(training_samples(data))
    assert len(images) == 32
    loader.batch_sampler.sampler.set_epoch(0)
    positions = loader.batch_sampler.sampler.order()[:4]
    stored = data.datasets["train"].features[data.datasets["train"].indices[positions]]
    for row in range(4):
        assert np.array_equal(images[8 * row], stored[row, 0])
        for epoch in range(3):
            augmented = data.augmented(positions, epoch=epoch)
            assert np.array_equal(images[8 * row + 1 + epoch], augmented[row, 0])
