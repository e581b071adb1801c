"""Panoptic FPN: the merge on maps that can be worked by hand, and the model's two branches on one pyramid."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.annotations import Detections, Segments
from mfed_ray.models.contract import STAGES, Features
from mfed_ray.models.panoptic import PanopticFPN, merge_panoptic
from mfed_ray.models.pyramid import LEVELS, STRIDES
from mfed_ray.models.semantic_fpn import semantic_loss
from mfed_ray.models.settings import ModelSettings, PanopticMerge

CHANNELS = {"c2": 4, "c3": 6, "c4": 8, "c5": 10}
SETTINGS = ModelSettings(
    decoder_width=8, fpn_width=8, anchor_size=8, normalisation="group", panoptic=PanopticMerge(score=0.0, stuff_area=1)
)
SIZE = (50, 97)
RULES = PanopticMerge(overlap=0.5, stuff_area=3, score=0.5)


def detections(rows: Sequence[tuple[list[int], int, float]]) -> Detections:
    """Objects in an image of one row of ten pixels, each of the columns [start, end), a label and a score."""
    masks = np.zeros((len(rows), 1, 10), np.uint8)
    for mask, ((start, end), _, _) in zip(masks, rows, strict=True):
        mask[0, start:end] = 1
    labels, scores = np.array([row[1] for row in rows], np.int64), np.array([row[2] for row in rows], np.float32)
    return Detections((1, 10), np.zeros((len(rows), 4), np.float32), labels, scores, masks)


def merged(rows: Sequence[tuple[list[int], int, float]], semantic: list[int], rules: PanopticMerge = RULES) -> Segments:
    return merge_panoptic(detections(rows), np.array([semantic], np.uint8), rules)


def assert_segments(found: Segments, pixels: list[int], labels: list[int]) -> None:
    assert found.map.tolist() == [pixels]
    assert found.ids.tolist() == list(range(1, len(labels) + 1))
    assert found.labels.tolist() == labels
    assert (found.map.dtype, found.ids.dtype, found.labels.dtype) == (
        np.dtype(np.int32),
        np.dtype(np.int64),
        np.dtype(np.int64),
    )
    assert found.crowd is None


def test_objects_then_stuff() -> None:
    """A person (label 1 is class 0) on the left; of the rest, stuff 1 is class 80 and stuff 53 the last, 132."""
    found = merged([([0, 4], 1, 0.9)], [1, 1, 1, 1, 1, 1, 1, 53, 53, 53])
    assert_segments(found, [1, 1, 1, 1, 2, 2, 2, 3, 3, 3], [0, 80, 132])


def test_the_better_object_keeps_shared_pixels() -> None:
    """The second has 2 of its 5 pixels taken: it gets the other three."""
    found = merged([([0, 4], 1, 0.9), ([2, 7], 80, 0.8)], [0] * 10)
    assert_segments(found, [1, 1, 1, 1, 2, 2, 2, 0, 0, 0], [0, 79])


@pytest.mark.parametrize(("end", "pixels"), [(6, [1, 1, 1, 1, 2, 2, 0, 0, 0, 0]), (5, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0])])
def test_an_object_more_than_half_taken_is_left_out(end: int, pixels: list[int]) -> None:
    """2 of 4 pixels taken is not more than half; 2 of 3 is."""
    assert_segments(merged([([0, 4], 1, 0.9), ([2, end], 1, 0.8)], [0] * 10), pixels, [0] * max(pixels))


def test_an_object_left_out_takes_nothing() -> None:
    """The second is left out, 3 of 5 taken; the third, of which it would have covered 2 pixels, is whole."""
    found = merged([([0, 4], 1, 0.9), ([1, 6], 1, 0.8), ([4, 7], 1, 0.7)], [0] * 10)
    assert_segments(found, [1, 1, 1, 1, 2, 2, 2, 0, 0, 0], [0, 0])


def test_an_object_without_a_free_pixel_is_no_segment() -> None:
    """Even where any overlap is allowed; nor is one with an empty mask."""
    rows = [([0, 4], 1, 0.9), ([1, 3], 1, 0.8), ([5, 5], 1, 0.7)]
    assert_segments(merged(rows, [0] * 10, PanopticMerge(overlap=1.0)), [1] * 4 + [0] * 6, [0])


def test_unsure_objects_are_left_out() -> None:
    """0.5 is enough where 0.5 is asked for."""
    found = merged([([0, 2], 1, 0.5), ([4, 6], 1, 0.49)], [0] * 10)
    assert_segments(found, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], [0])


def test_little_stuff_is_void() -> None:
    """Only pixels that no object took count: two of stuff 1, three of stuff 2, three asked for. Class 0 is void."""
    found = merged([([0, 2], 1, 0.9)], [1, 1, 1, 1, 2, 2, 2, 0, 0, 0])
    assert_segments(found, [1, 1, 0, 0, 2, 2, 2, 0, 0, 0], [0, 81])


def test_nothing_at_all() -> None:
    assert_segments(merged([], [0] * 10), [0] * 10, [])


def test_classes_that_do_not_occur_are_no_segments_at_area_0() -> None:
    assert_segments(merged([], [7] * 10, PanopticMerge(stuff_area=0)), [1] * 10, [86])


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


def target(semantic: NDArray[np.int64]) -> dict[str, Tensor]:
    masks = torch.zeros(1, *SIZE, dtype=torch.uint8)
    masks[0, 10:30, 20:60] = 1
    boxes, labels = torch.tensor([[20.0, 10.0, 60.0, 30.0]]), torch.tensor([3])
    return {"boxes": boxes, "labels": labels, "masks": masks, "semantic": torch.from_numpy(semantic)}


def test_all_branches_learn_and_the_semantic_loss_weighs_half() -> None:
    decoder, seen = PanopticFPN(CHANNELS, SETTINGS), features()
    targets = [target(np.full(SIZE, label)) for label in (53, 255)]
    losses = decoder.losses(seen, targets, SIZE)
    torch.autograd.backward(list(losses.values()))
    labels = torch.stack([each["semantic"] for each in targets])
    semantic = semantic_loss(decoder.semantic(decoder.pyramid(seen)), labels, SIZE)
    assert list(losses) == ["objectness", "rpn_box", "classification", "box", "mask", "semantic"]
    assert losses["semantic"].item() == pytest.approx(0.5 * semantic.item())
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in decoder.parameters())


def test_segments_at_the_original_size() -> None:
    for found in PanopticFPN(CHANNELS, SETTINGS).predict(features(), SIZE, (75, 200)):
        assert isinstance(found, Segments)
        assert found.map.shape == (75, 200)
        assert sorted({*found.map.flatten().tolist()} - {0}) == found.ids.tolist()


def test_branches_stand_on_one_pyramid() -> None:
    own = {name.split(".")[0] for name, _ in PanopticFPN(CHANNELS, SETTINGS).named_parameters()}
    channels = {**CHANNELS, **dict.fromkeys(LEVELS, 8)}
    shared = {name.split(".")[0] for name, _ in PanopticFPN(channels, SETTINGS).named_parameters()}
    assert (own, shared) == ({"pyramid", "detector", "semantic"}, {"detector", "semantic"})
