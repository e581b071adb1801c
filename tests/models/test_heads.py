"""Predictions made of logits."""

from math import log

import torch

from mfed_ray.models.heads import class_head, class_ids, probability, unit_vectors


def test_class_ids_are_the_greatest_logit() -> None:
    logits = torch.tensor([[0.0, 5.0], [1.0, -1.0], [0.5, 4.0]]).reshape(1, 3, 1, 2)
    prediction = class_ids(logits)
    assert prediction.dtype == torch.uint8
    assert prediction.tolist() == [[[1, 0]]]


def test_probability_is_the_sigmoid() -> None:
    torch.testing.assert_close(probability(torch.tensor([[[[0.0, log(3)]]]])), torch.tensor([[[0.5, 0.75]]]))


def test_unit_vectors_come_last() -> None:
    logits = torch.tensor([3.0, 0.0, 4.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(unit_vectors(logits), torch.tensor([[[[0.6, 0.0, 0.8]]]]))


def test_class_head_has_a_logit_for_each_class() -> None:
    assert class_head(21).outputs == 21
