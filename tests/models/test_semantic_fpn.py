"""The semantic branch: its stages, sizes that no stride divides, and where its classes' borders lie."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mfed_ray.models.contract import STAGES, Features
from mfed_ray.models.heads import class_ids
from mfed_ray.models.normalisation import NORMALISATIONS
from mfed_ray.models.pyramid import LEVELS, STRIDES
from mfed_ray.models.semantic_fpn import SemanticBranch, SemanticFPN, enlarge, semantic_loss, semantic_maps
from mfed_ray.models.settings import ModelSettings

CHANNELS = {"c2": 4, "c3": 6, "c4": 8, "c5": 10}
SIZE = (50, 97)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def features() -> Features:
    """What an encoder makes of two images of 50 x 97 pixels."""
    strides = zip(STAGES, STRIDES[:4], strict=True)
    grids = {stage: (-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stage, stride in strides}
    return {stage: torch.randn(2, CHANNELS[stage], *grid) for stage, grid in grids.items()}


def settings(policy: str) -> ModelSettings:
    return ModelSettings(decoder_width=32, fpn_width=8, normalisation=policy)


@pytest.mark.parametrize("policy", NORMALISATIONS)
def test_it_trains_and_predicts_at_odd_sizes(policy: str) -> None:
    decoder = SemanticFPN(CHANNELS, settings(policy), 5)
    losses = decoder.losses(features(), torch.ones(2, *SIZE, dtype=torch.int64), SIZE)
    torch.autograd.backward(list(losses.values()))
    # logits start near zero: close to the cross-entropy of five equal chances
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx({"cross_entropy": 1.609}, abs=0.2)
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in decoder.parameters())
    maps = decoder.predict(features(), SIZE, (101, 203))
    assert [(each.shape, each.dtype.name) for each in maps if isinstance(each, np.ndarray)] == [
        ((101, 203), "uint8")
    ] * 2


@pytest.mark.parametrize("policy", NORMALISATIONS)
def test_stages_are_those_of_the_paper_with_group_norm_always(policy: str) -> None:
    """One stage for p2 and p3, two for p4, three for p5, of half the width; then 1x1 to the classes."""
    branch = SemanticFPN(CHANNELS, settings(policy), 92).branch
    convolutions = [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
    inputs = [8, 8, 8, 16, 8, 16, 16]
    assert [tuple(conv.weight.shape) for conv in convolutions] == [(16, each, 3, 3) for each in inputs] + [
        (92, 16, 1, 1)
    ]
    assert sum(isinstance(module, nn.GroupNorm) for module in branch.modules()) == 7


def test_every_level_is_seen() -> None:
    branch, levels = SemanticBranch(3, 8, 2), {}
    for level, stride in zip(LEVELS[:4], STRIDES[:4], strict=True):
        levels[level] = torch.randn(1, 3, -(-50 // stride), -(-97 // stride), requires_grad=True)
    logits = branch(levels)
    logits.square().sum().backward()
    assert logits.shape == (1, 2, 13, 25)
    assert all(level.grad is not None and bool(level.grad.any()) for level in levels.values())


def test_enlarging_keeps_places() -> None:
    """25 cells of 4 pixels, each with the x of its middle: in 97 pixels each has its own x, but at the edges."""
    cells = (4 * torch.arange(25.0) + 2).expand(1, 1, 25, 25)
    across = enlarge(cells, (4, 4), (97, 97))[0, 0, 50]
    torch.testing.assert_close(across[2:], torch.arange(2, 97) + 0.5)
    assert across[:2].tolist() == [2, 2]
    assert torch.equal(enlarge(cells.mT, (4, 4), (97, 97)), enlarge(cells, (4, 4), (97, 97)).mT)


def test_enlarging_repeats_the_last_cell() -> None:
    """Cells 0, 8 by two: 0, 2, 6, 8, of which three are kept."""
    assert enlarge(torch.tensor([[[[0.0, 8.0]]]]), (2, 2), (1, 4)).tolist() == [[[[0, 2, 6, 8]]]]
    assert enlarge(torch.tensor([[[[0.0, 8.0]]]]), (2, 2), (2, 3)).tolist() == [[[[0, 2, 6], [0, 2, 6]]]]


def test_rounding_keeps_the_last_pixel() -> None:
    """11 cells times 4 x 60 / 44 is 59.99.. in floating point: 60 pixels all the same."""
    assert semantic_maps(torch.zeros(1, 2, 11, 11), (44, 44), (60, 60))[0].shape == (60, 60)


def test_borders_land_in_original_coordinates() -> None:
    """Class 1 wins right of x = 30 in an image 97 wide: right of 60 in the same image of twice the width."""
    margin = (4 * torch.arange(25.0) + 2 - 30).expand(1, 1, 13, 25)
    logits = torch.cat([torch.zeros_like(margin), margin], dim=1)
    seen, original = semantic_maps(logits, SIZE, SIZE)[0], semantic_maps(logits, SIZE, (25, 194))[0]
    np.testing.assert_array_equal(seen, np.tile(np.arange(97) + 0.5 > 30, (50, 1)))
    np.testing.assert_array_equal(original, np.tile(np.arange(194) + 0.5 > 60, (25, 1)))


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple) else (made,):
            self.bytes = max(self.bytes, one.nbytes if isinstance(one, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize(("classes", "original"), [(92, (420, 815)), (2, (2900, 2901)), (92, (30, 41))])
def test_a_large_image_takes_no_more_memory_and_has_the_same_classes(classes: int, original: tuple[int, int]) -> None:
    """Several classes at a time, one at a time, and all at once; also where logits are equal."""
    logits = torch.randn(2, classes, 13, 25)
    logits[1] = logits[1].round()
    factors = (4 * original[0] / SIZE[0], 4 * original[1] / SIZE[1])
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        maps = semantic_maps(logits, SIZE, original)
    assert largest.bytes < 90 * 2**20
    for one, expected in zip(maps, class_ids(enlarge(logits, factors, original)).numpy(), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_void_is_not_learnt() -> None:
    """Two classes with equal logits: ln 2 for each pixel that counts; all void: 0."""
    logits, labels = torch.zeros(1, 2, 13, 25), torch.full((1, *SIZE), 255)
    assert semantic_loss(logits, labels, SIZE).item() == 0
    labels[0, 3, 4] = 1
    assert semantic_loss(logits, labels, SIZE).item() == pytest.approx(math.log(2))
