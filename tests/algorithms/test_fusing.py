"""Agreement and lengths of steps by block, worked by hand."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest

from mfed_ray.algorithms.fusing import GroupRound, measured, squared_lengths
from mfed_ray.messages import Params


def encoder(stem: Sequence[float], layer: Sequence[float], mean: float = 0.0) -> Params:
    """Two blocks; the running mean is no learned parameter."""
    values = {"conv1.weight": stem, "bn1.running_mean": [mean], "layer1.0.weight": layer}
    return {f"encoder.{name}": np.array(value, np.float32) for name, value in values.items()}


START = encoder([1, 1], [0], 5)
STEM, LAYER = "encoder", "encoder.layer1.0"


def sent(stem: float, layer: float) -> dict[str, float]:
    return {"length/encoder": stem, "length/encoder.layer1.0": layer, "loss/a": 1.0}


def test_squared_lengths_are_of_learned_parameters() -> None:
    """(3, 4) and -2."""
    moved = squared_lengths(encoder([4, 5], [-2], 99), START)
    assert moved == {"length/encoder": 25.0, "length/encoder.layer1.0": 4.0}


def test_a_round_of_two_groups() -> None:
    """a's clients weigh 1 and 3 and go (3, 4) and (5, 0) in the stem, 2 and -6 in the layer: a goes (4.5, 1) and -4.

    Their cosines are 15/25 and -1. b's one client goes (0, 2) and -3. All go on with the mean of the two groups.
    """
    end = encoder([1 + 2.25, 1 + 1.5], [-3.5])
    a = GroupRound(START, encoder([5.5, 2], [-4], 7), end, [(1.0, sent(25, 4)), (3.0, sent(25, 36))])
    b = GroupRound(START, encoder([1, 3], [-3]), end, [(1.0, sent(4, 9))])
    between = pytest.approx(1 / 21.25**0.5)
    fused = pytest.approx((2.25**2 + 1.5**2) ** 0.5)
    assert [astuple(row) for row in measured({"a": a, "b": b})] == [
        ("a", "a", STEM, pytest.approx(0.6), pytest.approx(21.25**0.5), fused),
        ("a", "a", LAYER, -1.0, 4.0, 3.5),
        ("b", "b", STEM, None, 2.0, fused),
        ("b", "b", LAYER, None, 3.0, 3.5),
        ("a", "b", STEM, between, None, None),
        ("b", "a", STEM, between, None, None),
        ("a", "b", LAYER, 1.0, None, None),
        ("b", "a", LAYER, 1.0, None, None),
    ]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (4.0, 1.0, 2.0)])
def test_agreement_within_is_a_weighted_mean_of_cosines(weights: tuple[float, ...]) -> None:
    """Clients go (1, 0), (0, 2) and (-2, 0): cosines 0, -1, 0 of pairs that weigh 2, 2, 4 times their weights."""
    steps = np.array([[1, 0], [0, 2], [-2, 0]])
    one, two, three = weights
    expected = -2 * one * three / (2 * one * two + 2 * one * three + 4 * two * three)
    mean = np.array([1, 1]) + np.average(steps, axis=0, weights=weights)
    clients = [(weight, sent(length, 0)) for weight, length in zip(weights, (1, 4, 4), strict=True)]
    stem, layer = measured({"a": GroupRound(START, encoder(list(mean), [0]), START, clients)})
    assert stem.agreement == pytest.approx(expected)
    assert stem.fused_length == 0.0
    assert (layer.agreement, layer.own_length) == (None, 0.0)  # nobody went anywhere


def test_a_client_without_the_block_has_no_say_in_it() -> None:
    clients = [(1.0, sent(25, 1)), (3.0, sent(25, 1)), (9.0, {"length/encoder.layer1.0": 1.0})]
    stem, _ = measured({"a": GroupRound(START, encoder([5.5, 2], [1]), START, clients)})
    assert stem.agreement == pytest.approx(0.6)


def test_groups_are_compared_in_the_blocks_that_are_alike() -> None:
    """b's layer is wider, and its start is another: its step of (2, 0) in the stem is what counts."""
    wide, far = encoder([7, 7], [0, 0]), encoder([9, 7], [1, 1])
    a = GroupRound(START, encoder([2, 2], [1]), START, [])
    b = GroupRound(wide, far, wide, [])
    rows = {(row.group, row.other, row.block): row.agreement for row in measured({"a": a, "b": b})}
    assert rows == {
        ("a", "a", STEM): None,
        ("a", "a", LAYER): None,
        ("b", "b", STEM): None,
        ("b", "b", LAYER): None,
        ("a", "b", STEM): pytest.approx(0.5**0.5),
        ("b", "a", STEM): pytest.approx(0.5**0.5),
    }
