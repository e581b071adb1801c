"""Losses against values worked by hand, void pixels, and gradients."""

from collections.abc import Callable
from math import log

import pytest
import torch
from torch import Tensor

from mfed_ray.models.losses import balanced_binary_cross_entropy, cross_entropy, edge_cross_entropy, normals_l1

Loss = Callable[[Tensor, Tensor], Tensor]

LABELS = torch.tensor([[[1, 0, 0, 255]]], dtype=torch.uint8)
# the sigmoid of log 3 is 3/4: the positive pixel costs log 4/3, negative pixels at logit 0 cost log 2
LOGITS = torch.tensor([log(3), 0.0, 0.0, 50.0]).reshape(1, 1, 1, 4)


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    logits = torch.tensor([[0.0, log(3), 9.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    loss = cross_entropy(logits, torch.tensor([[[1, 0, 255]]]))
    assert loss.item() == pytest.approx((log(2) + log(4 / 3)) / 2)


def test_cross_entropy_gradient() -> None:
    """Softmax minus one-hot, over the two valid pixels."""
    logits = torch.zeros(1, 2, 1, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([[[1, 0, 255]]])), logits)
    expected = torch.tensor([[0.25, -0.25, 0.0], [-0.25, 0.25, 0.0]]).reshape(1, 2, 1, 3)
    torch.testing.assert_close(gradient, expected)


def test_balanced_weights_are_the_other_classes_share() -> None:
    """One positive of three weighs 2/3, each of two negatives 1/3."""
    loss = balanced_binary_cross_entropy(LOGITS, LABELS)
    assert loss.item() == pytest.approx((2 / 3 * log(4 / 3) + 2 / 3 * log(2)) / 3)


def test_edge_weights_are_fixed() -> None:
    loss = edge_cross_entropy(LOGITS, LABELS)
    assert loss.item() == pytest.approx((0.95 * log(4 / 3) + 2 * 0.05 * log(2)) / 3)


def test_edge_gradient() -> None:
    """Weight times (sigmoid minus label), over the three valid pixels."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(edge_cross_entropy(logits, LABELS), logits)
    expected = torch.tensor([0.95 * (0.75 - 1), 0.05 * 0.5, 0.05 * 0.5, 0.0]).reshape(1, 1, 1, 4) / 3
    torch.testing.assert_close(gradient, expected)


def test_normals_distance_ignores_length_and_void() -> None:
    """L1 distances: z from z 0, z from x 2, (1, 1, 0) / sqrt 2 from x 1; the last pixel is void."""
    logits = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [3.0, 3.0, 0.0], [1.0, 1.0, 1.0]]).T.reshape(1, 3, 1, 4)
    target = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).reshape(1, 1, 4, 3)
    # the third: (1 - 1 / sqrt 2) + 1 / sqrt 2 = 1; the mean is over three valid pixels of three components
    assert normals_l1(logits, target).item() == pytest.approx((0 + 2 + 1) / 9)


def class_case(void: bool) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 4, (2, 3, 5))
    labels[:, 0] = 255
    return torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.full_like(labels, 255) if void else labels


def binary_case(void: bool) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 2, (2, 3, 5), dtype=torch.uint8)
    labels[:, 0] = 255
    return torch.randn(2, 1, 3, 5, dtype=torch.float64), torch.full_like(labels, 255) if void else labels


def normals_case(void: bool) -> tuple[Tensor, Tensor]:
    normals = torch.nn.functional.normalize(torch.randn(2, 3, 5, 3, dtype=torch.float64), dim=-1)
    normals[:, 0] = 0
    return torch.randn(2, 3, 3, 5, dtype=torch.float64), torch.zeros_like(normals) if void else normals


CASES = [
    (cross_entropy, class_case),
    (balanced_binary_cross_entropy, binary_case),
    (edge_cross_entropy, binary_case),
    (normals_l1, normals_case),
]


@pytest.mark.parametrize(("loss", "case"), CASES)
def test_gradient_agrees_with_finite_differences(loss: Loss, case: Callable[[bool], tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(0)
    logits, target = case(False)
    assert torch.autograd.gradcheck(lambda values: loss(values, target), [logits.requires_grad_()])


@pytest.mark.parametrize(("loss", "case"), CASES)
def test_void_pixels_have_no_gradient(loss: Loss, case: Callable[[bool], tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(0)
    logits, target = case(False)
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), target), logits)
    assert not bool(gradient[:, :, 0].any())
    assert bool(gradient[:, :, 1:].any())


@pytest.mark.parametrize(("loss", "case"), CASES)
def test_void_batch_costs_nothing(loss: Loss, case: Callable[[bool], tuple[Tensor, Tensor]]) -> None:
    logits, target = case(True)
    value = loss(logits.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(logits))
