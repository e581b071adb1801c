"""Masks and keypoints of boxes: what is learnt of them, and where they land in the image."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mfed_ray.annotations import Detections
from mfed_ray.models.branches import KeypointBranch, MaskBranch, mask_targets, paste_masks
from mfed_ray.models.settings import ModelSettings

SETTINGS = ModelSettings(decoder_width=8, fpn_width=8, normalisation="average")


def test_mask_targets_are_shares_of_cells() -> None:
    """Columns 0 and 1 of 4 are covered: the left half of both boxes, and two thirds of columns 0 to 2."""
    masks = torch.tensor([[[1, 1, 0, 0]] * 4], dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 0, 3, 2]])
    halves = mask_targets(masks, boxes, torch.tensor([0, 0]), 2)
    torch.testing.assert_close(halves, torch.tensor([[[1.0, 0], [1, 0]]] * 2))
    share = mask_targets(masks, torch.tensor([[0.0, 0, 3, 4]]), torch.tensor([0]), 1)
    torch.testing.assert_close(share, torch.tensor([[[2 / 3]]]))


def test_each_box_takes_its_own_mask() -> None:
    masks = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).to(torch.uint8)
    wanted = mask_targets(masks, torch.tensor([[0.0, 0, 4, 4]] * 3), torch.tensor([1, 0, 1]), 2)
    assert wanted.mean(dim=(1, 2)).tolist() == [1, 0, 1]


def test_masks_are_interpolated_at_the_centres_of_pixels() -> None:
    """Two columns 1, 0 over x = 2..6: at 2.5, 3.5, 4.5, 5.5 they are 3/4, 3/4, 1/4, 0."""
    mask = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    pasted = paste_masks(mask, torch.tensor([[2.0, 0.0, 6.0, 4.0]]), (4, 8))
    assert pasted.dtype == torch.uint8
    assert pasted.tolist() == [[[0, 0, 1, 1, 0, 0, 0, 0]] * 4]


def test_half_a_pixel_moves_a_mask() -> None:
    """A full mask over x = 1.4..3.4 covers the centres 1.5 and 2.5, over 1.6..3.6 those of 2.5 and 3.5."""
    boxes = torch.tensor([[1.4, 0.0, 3.4, 4.0], [1.6, 0.0, 3.6, 4.0]])
    rows = paste_masks(torch.ones(2, 28, 28), boxes, (4, 6))[:, 2]
    assert rows.tolist() == [[0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]]


def test_boxes_are_not_rounded() -> None:
    """The left half of x = 1.4..4.4 ends at 2.9, beyond the centre 2.5; that of 1..4 would end on it."""
    halves = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    assert paste_masks(halves, torch.tensor([[1.4, 0.0, 4.4, 4.0]]), (4, 6))[0, 2].tolist() == [0, 1, 1, 0, 0, 0]


def test_masks_are_cut_at_the_images_edges() -> None:
    pasted = paste_masks(torch.ones(1, 4, 4), torch.tensor([[-2.0, 1.0, 2.0, 9.0]]), (3, 4))
    assert pasted.tolist() == [[[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]]


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_encoded_and_pasted_is_the_mask(seed: int) -> None:
    """Ellipses keep their shape, and their centres to a tenth of a pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:60, :80] + 0.5
    y, x, down, across = rng.uniform((25, 30, 6, 6), (35, 50, 24, 29))
    mask = (((rows - y) / down) ** 2 + ((columns - x) / across) ** 2 < 1).astype(np.uint8)
    inside = np.nonzero(mask)
    box = torch.tensor([[inside[1].min(), inside[0].min(), inside[1].max() + 1.0, inside[0].max() + 1.0]])
    encoded = mask_targets(torch.from_numpy(mask)[None], box.float(), torch.tensor([0]), 28)
    pasted = paste_masks(encoded, box, (60, 80))[0].numpy()
    assert (pasted & mask).sum() / (pasted | mask).sum() > 0.97
    centre, expected = (np.array(np.nonzero(each)).mean(axis=1) for each in (pasted, mask))
    np.testing.assert_allclose(centre, expected, atol=0.1)


def found(labels: list[int], size: tuple[int, int]) -> tuple[Detections, Tensor]:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(len(labels), 1)
    scores = np.full(len(labels), 0.5, np.float32)
    return Detections(size, boxes.numpy(), np.array(labels, np.int64), scores), boxes


def test_a_mask_is_that_of_the_objects_class() -> None:
    logits = torch.full((2, 4, 28, 28), -5.0)
    logits[:, 2] = 5.0
    described = MaskBranch(8, 4, SETTINGS).describe(logits, *found([2, 3], (4, 6)))
    assert described.masks is not None
    assert described.masks.shape == (2, 4, 6)
    assert described.masks.dtype == np.uint8
    assert described.masks.sum(axis=(1, 2)).tolist() == [16, 0]


def test_mask_loss_is_of_the_objects_class() -> None:
    """Logits 0 for the wanted class: ln 2, whatever the others say."""
    logits = torch.full((1, 4, 28, 28), 9.0)
    logits[0, 3] = 0.0
    target = {"labels": torch.tensor([1, 3]), "masks": torch.ones(2, 8, 8, dtype=torch.uint8)}
    loss = MaskBranch(8, 4, SETTINGS).loss(logits, [torch.tensor([[0.0, 0, 8, 8]])], [torch.tensor([1])], [target])
    assert loss.item() == pytest.approx(np.log(2))


def test_keypoints_are_the_centres_of_the_greatest_pixels() -> None:
    """Cell (row 28, column 7) of 56 over 56 x 56 pixels from (10, 20): x = 10 + 7.5, y = 20 + 28.5."""
    logits = torch.zeros(1, 17, 56, 56)
    logits[:, :, 28, 7] = 10.0
    detections, _ = found([1], (100, 100))
    described = KeypointBranch(8, SETTINGS).describe(logits, detections, torch.tensor([[10.0, 20.0, 66.0, 76.0]]))
    assert described.keypoints is not None
    assert described.keypoints.dtype == np.float32
    assert described.keypoints.tolist() == [[[17.5, 48.5, 1.0]] * 17]


def test_keypoint_loss_counts_labelled_keypoints_inside_the_box() -> None:
    """One of 17 is labelled and inside: the logits favour its cell, 0 against 55 x 56 + 55 others of -20."""
    keypoints = torch.zeros(1, 17, 3)
    keypoints[0, 0] = torch.tensor([17.5, 48.5, 2.0])
    keypoints[0, 1] = torch.tensor([90.0, 90.0, 2.0])
    logits = torch.full((1, 17, 56, 56), -20.0)
    logits[0, 0, 28, 7] = 0.0
    branch, box = KeypointBranch(8, SETTINGS), torch.tensor([[10.0, 20.0, 66.0, 76.0]])
    loss = branch.loss(logits, [box], [torch.tensor([0])], [{"keypoints": keypoints}])
    assert loss.item() == pytest.approx(0, abs=1e-4)
    unlabelled = branch.loss(logits, [box], [torch.tensor([0])], [{"keypoints": torch.zeros(1, 17, 3)}])
    assert unlabelled.item() == 0


@pytest.mark.parametrize(("policy", "masks", "keypoints"), [("group", 4, 8), ("frozen", 0, 0)])
def test_only_the_policy_group_normalises(policy: str, masks: int, keypoints: int) -> None:
    settings = ModelSettings(decoder_width=8, normalisation=policy)
    branches = (MaskBranch(8, 4, settings), KeypointBranch(8, settings))
    counts = [sum(isinstance(module, torch.nn.GroupNorm) for module in branch.modules()) for branch in branches]
    assert counts == [masks, keypoints]
