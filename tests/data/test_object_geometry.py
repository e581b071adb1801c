"""Objects and segments under resizing, mirroring and cropping, by hand and against their own masks."""

from dataclasses import replace

import numpy as np
import pytest

from mfed_ray.annotations import Objects, Segments, mask_box
from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.data.object_geometry import crop_objects, flip_objects, resize_objects
from mfed_ray.data.sample import Sample
from mfed_ray.data.settings import Augmentation, InputSize
from mfed_ray.data.transforms import augment, crop, flip, resize
from mfed_ray.errors import ConfigError


def two_objects() -> Objects:
    """In 10 x 20 pixels: rows 2..5, columns 3..8 of class 7, and one of 4 x 2 pixels in the lower right corner."""
    masks = np.zeros((2, 10, 20), np.uint8)
    masks[0, 2:6, 3:9] = 1
    masks[1, 6:10, 18:20] = 1
    boxes = np.array([[3, 2, 9, 6], [18, 6, 20, 10]], np.float32)
    keypoints = np.zeros((2, 17, 3), np.float32)
    keypoints[0, KEYPOINTS.index("left_eye")] = (4.5, 3.5, 2)
    keypoints[0, KEYPOINTS.index("nose")] = (8.5, 5.5, 1)
    return Objects(
        (10, 20), boxes, np.array([7, 9]), np.array([24, 8], np.float32), np.zeros(2, bool), masks, keypoints
    )


def test_resizing_scales_each_axis_by_its_own_factor() -> None:
    resized = resize_objects(two_objects(), (30, 40))
    assert resized.size == (30, 40)
    np.testing.assert_array_equal(resized.boxes, [[6, 6, 18, 18], [36, 18, 40, 30]])
    np.testing.assert_array_equal(resized.areas, [24 * 6, 8 * 6])
    assert resized.masks is not None
    assert resized.keypoints is not None
    np.testing.assert_array_equal([mask_box(mask) for mask in resized.masks], resized.boxes)
    np.testing.assert_array_equal(resized.keypoints[0, 1], [9, 10.5, 2])
    np.testing.assert_array_equal(resized.keypoints[1], 0)


def test_mirroring_swaps_left_and_right() -> None:
    mirrored = flip_objects(two_objects())
    np.testing.assert_array_equal(mirrored.boxes, [[11, 2, 17, 6], [0, 6, 2, 10]])
    assert mirrored.masks is not None
    assert mirrored.keypoints is not None
    np.testing.assert_array_equal([mask_box(mask) for mask in mirrored.masks], mirrored.boxes)
    np.testing.assert_array_equal(mirrored.keypoints[0, KEYPOINTS.index("right_eye")], [15.5, 3.5, 2])
    np.testing.assert_array_equal(mirrored.keypoints[0, KEYPOINTS.index("left_eye")], 0)
    np.testing.assert_array_equal(mirrored.keypoints[0, KEYPOINTS.index("nose")], [11.5, 5.5, 1])


def test_mirroring_twice_is_nothing() -> None:
    once, twice = two_objects(), flip_objects(flip_objects(two_objects()))
    for name in ("boxes", "masks", "keypoints"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))


def test_a_crop_cuts_boxes_masks_and_keypoints_and_drops_what_is_outside() -> None:
    cut = crop_objects(two_objects(), (1, 5), 6)  # rows 1..6, columns 5..10: the second object is outside
    assert cut.size == (6, 6)
    np.testing.assert_array_equal(cut.boxes, [[0, 1, 4, 5]])
    np.testing.assert_array_equal(cut.labels, [7])
    np.testing.assert_array_equal(cut.areas, [16])  # four of its six columns are left
    assert cut.masks is not None
    assert cut.keypoints is not None
    assert cut.masks.sum() == 16
    np.testing.assert_array_equal(cut.keypoints[0, KEYPOINTS.index("nose")], [3.5, 4.5, 1])
    np.testing.assert_array_equal(cut.keypoints[0, KEYPOINTS.index("left_eye")], 0)  # cut away: unlabelled


def test_a_crop_larger_than_the_image_moves_everything() -> None:
    moved = crop_objects(two_objects(), (-4, -7), 40)
    np.testing.assert_array_equal(moved.boxes, two_objects().boxes + np.array([7, 4, 7, 4]))
    np.testing.assert_array_equal(moved.areas, [24, 8])
    assert moved.masks is not None
    np.testing.assert_array_equal([mask_box(mask) for mask in moved.masks], moved.boxes)


def test_the_box_of_a_cut_object_is_that_of_what_is_seen() -> None:
    """A diagonal: its box cut at column 4 spans all rows, but what is left of it lies in the first four."""
    mask = np.eye(8, dtype=np.uint8)[None]
    diagonal = Objects(
        (8, 8),
        np.array([[0, 0, 8, 8]], np.float32),
        np.ones(1, np.int64),
        np.ones(1, np.float32),
        np.zeros(1, bool),
        mask,
    )
    np.testing.assert_array_equal(crop_objects(diagonal, (0, -4), 8).boxes, [[4, 0, 8, 4]])
    no_mask = replace(diagonal, masks=None)
    np.testing.assert_array_equal(crop_objects(no_mask, (0, -4), 8).boxes, [[4, 0, 8, 8]])


def test_no_objects_stay_none() -> None:
    none = Objects(
        (4, 4),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        np.zeros(0, bool),
        np.zeros((0, 4, 4), np.uint8),
        np.zeros((0, 17, 3), np.float32),
    )
    changed = crop_objects(flip_objects(resize_objects(none, (6, 8))), (1, 1), 5)
    assert changed.boxes.shape == (0, 4)
    assert changed.masks is not None
    assert changed.keypoints is not None
    assert (changed.masks.shape, changed.keypoints.shape) == ((0, 5, 5), (0, 17, 3))


def test_image_objects_and_segments_stay_aligned_under_augmentation() -> None:
    """A bright rectangle: wherever it goes, its mask, its box, its segment and its keypoint lie on it."""
    rng = np.random.default_rng(0)
    offsets = []
    for _ in range(40):
        image = np.zeros((41, 61, 3), np.uint8)  # odd sizes: no half-covered pixels
        image[11:31, 20:49] = 255
        mask = (image[..., 0] > 0).astype(np.uint8)
        keypoints = np.zeros((1, 17, 3), np.float32)
        keypoints[0, 0] = (35, 20, 2)
        area = np.array([mask.sum()], np.float32)
        objects = Objects(
            (41, 61), mask_box(mask)[None], np.ones(1, np.int64), area, np.zeros(1, bool), mask[None], keypoints
        )
        segments = Segments(mask.astype(np.int32) * 5, np.array([5]), np.array([0]), np.zeros(1, bool))
        sample = Sample("one", image, {"instance_segmentation": objects, "panoptic_segmentation": segments})
        settings = Augmentation(crop_size=48, scale=(0.6, 1.6), flip=0.5, colour=0.0)
        result = augment(sample, settings, rng, InputSize(short_side=50, long_side=80))
        found, panoptic = result.targets["instance_segmentation"], result.targets["panoptic_segmentation"]
        assert isinstance(found, Objects)
        assert isinstance(panoptic, Segments)
        bright = (result.image[..., 0] > 127) & (result.image[..., 2] > 127)
        if not len(found.boxes):
            continue
        assert found.masks is not None
        assert found.keypoints is not None
        offsets.append(mask_box(bright) - mask_box(found.masks[0]))
        np.testing.assert_array_equal(found.masks[0], panoptic.map == 5)
        assert np.abs(found.boxes[0] - mask_box(found.masks[0])).max() < 1
        x, y, visible = found.keypoints[0, 0]
        assert not visible or found.masks[0, int(y), int(x)]
    assert len(offsets) > 30
    assert np.abs(offsets).max() <= 1  # each edge is rounded to a pixel, by the image and by the mask
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.2  # but neither is shifted


def test_segments_keep_ids_and_void() -> None:
    ids = np.array([[1, 1, 9], [0, 9, 9]], np.int32)
    sample = Sample(
        "one",
        np.zeros((2, 3, 3), np.uint8),
        {"panoptic_segmentation": Segments(ids, np.array([1, 9]), np.array([3, 90]))},
    )
    doubled = resize(sample, (4, 6)).targets["panoptic_segmentation"]
    mirrored = flip(sample).targets["panoptic_segmentation"]
    square = crop(sample, 3, np.random.default_rng(0)).targets["panoptic_segmentation"]
    assert isinstance(doubled, Segments)
    assert isinstance(mirrored, Segments)
    assert isinstance(square, Segments)
    np.testing.assert_array_equal(doubled.map, np.repeat(np.repeat(ids, 2, 0), 2, 1))
    np.testing.assert_array_equal(mirrored.map, ids[:, ::-1])
    assert sorted(np.unique(square.map)) == [0, 1, 9]
    np.testing.assert_array_equal(np.sort(square.map.sum(axis=1)), np.sort([0, 11, 18]))  # one row of void beside


@pytest.mark.parametrize(
    ("short", "long", "size", "expected"),
    [
        (None, 1333, (480, 640), (480, 640)),
        (800, 1333, (480, 640), (800, 1067)),  # 480 * 5/3; 640 * 5/3 = 1066.7
        (800, 1333, (427, 640), (800, 1199)),  # 640 * 800/427 = 1199.06
        (800, 1333, (240, 640), (500, 1333)),  # the longer side decides: 1333/640 = 2.083
        (96, 128, (640, 427), (128, 85)),
    ],
)
def test_input_size(short: int | None, long: int, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert InputSize(short_side=short, long_side=long).of(*size) == expected


def test_input_size_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"images\.short_side: 0 found, must be from 1 to images\.long_side \(1333\)"):
        InputSize(short_side=0)
    with pytest.raises(
        ConfigError, match=r"images\.short_side: 900 found, must be from 1 to images\.long_side \(800\)"
    ):
        InputSize(short_side=900, long_side=800)
