"""The losses against torch's functions, against loops, and against values worked out by hand."""

import pytest
import torch
from torch.nn import functional as F

from mlplab.models.losses import CrossEntropy, PerceptronLoss


def scores(num_outputs, num_samples=50):
    labels = torch.randint(0, max(2, num_outputs), (num_samples,))
    return 3 * torch.randn(num_samples, num_outputs, requires_grad=True), labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_is_torchs(smoothing):
    logits, labels = scores(4)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(CrossEntropy(smoothing)(logits, labels), expected)


def test_of_mixed_labels_it_is_the_mean_of_both_weighed_by_their_shares():
    (logits, labels), others = scores(4), torch.randint(0, 4, (50,))
    share = torch.rand(50)
    targets = torch.lerp(F.one_hot(labels, 4).float(), F.one_hot(others, 4).float(), share[:, None])
    each = [F.cross_entropy(logits, one, reduction="none", label_smoothing=0.1) for one in (labels, others)]
    torch.testing.assert_close(CrossEntropy(0.1)(logits, targets), torch.lerp(*each, share).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_one_output_is_two_classes_with_the_first_logit_at_zero(smoothing):
    logits, labels = scores(1)
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(CrossEntropy(smoothing)(logits, labels), CrossEntropy(smoothing)(both, labels))
    torch.testing.assert_close(CrossEntropy().probabilities(logits), CrossEntropy().probabilities(both))


@pytest.mark.parametrize("num_outputs", [1, 4])
def test_labels_are_smoothed_in_training_only(num_outputs):
    logits, labels = scores(num_outputs)
    smoothed, plain = CrossEntropy(0.2), CrossEntropy()
    assert not torch.isclose(smoothed(logits, labels), plain(logits, labels))
    assert torch.equal(smoothed.eval()(logits, labels), plain(logits, labels))


def test_large_logits_stay_finite():
    logits = torch.tensor([[1000.0], [-1000.0]])
    assert CrossEntropy()(logits, torch.tensor([0, 1])).item() == pytest.approx(1000)
    assert CrossEntropy()(torch.tensor([[1000.0, -1000.0]]), torch.tensor([1])).item() == pytest.approx(2000)


@pytest.mark.parametrize("loss", [CrossEntropy(), PerceptronLoss()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_probabilities_are_shares_of_one_and_agree_with_the_largest_logit(loss, num_outputs):
    logits, _ = scores(num_outputs)
    probabilities = loss.probabilities(logits.detach())
    assert probabilities.shape == (50, max(2, num_outputs))
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(50))
    chosen = (logits[:, 0] > 0).long() if num_outputs == 1 else logits.argmax(dim=1)
    assert torch.equal(probabilities.argmax(dim=1), chosen)


@pytest.mark.parametrize("num_outputs", [1, 2, 5])
def test_perceptron_criterion_is_zero_exactly_on_the_right_side_else_how_far_the_wrong_one_is_ahead(num_outputs):
    logits, labels = scores(num_outputs)
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        sides = [0.0, *row] if num_outputs == 1 else row
        ahead = max(value for index, value in enumerate(sides) if index != label) - sides[label]
        loss = PerceptronLoss()(torch.tensor([row]), torch.tensor([label]))
        assert loss.item() == pytest.approx(max(0.0, ahead))


@pytest.mark.parametrize("label", [0, 1])
def test_one_binary_sample_gives_rosenblatts_update(label):
    rate, sign, updated = 0.5, 2 * label - 1, 0
    for sample in torch.randn(20, 3):
        linear = torch.nn.Linear(3, 1)
        weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
        wrong = sign * linear(sample[None]).item() < 0
        PerceptronLoss()(linear(sample[None]), torch.tensor([label])).backward()
        torch.optim.SGD(linear.parameters(), lr=rate).step()
        torch.testing.assert_close(linear.weight.detach(), weight + wrong * rate * sign * sample)
        torch.testing.assert_close(linear.bias.detach(), bias + wrong * rate * sign)
        updated += wrong
    assert 0 < updated < 20


def test_several_classes_pull_the_true_class_up_and_the_highest_wrong_one_down():
    logits = torch.tensor([[1.0, 4.0, 2.5], [9.0, 0.0, 0.0]], requires_grad=True)
    PerceptronLoss()(logits, torch.tensor([2, 0])).backward()
    assert logits.grad.tolist() == [[0, 0.5, -0.5], [0, 0, 0]]
