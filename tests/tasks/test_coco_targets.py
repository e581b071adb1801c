"""What the detectors learn from: by hand."""

import numpy as np

from mfed_ray.annotations import Objects, Segments
from mfed_ray.tasks import get_task
from mfed_ray.tasks.objects import learnable


def test_crowds_slivers_and_empty_masks_teach_nothing() -> None:
    """Of five objects the first is whole; then a crowd, one 0.5 wide, one of no height, one whose mask is empty."""
    boxes = np.array([[1, 1, 4, 5], [0, 0, 8, 8], [2, 2, 2.5, 6], [3, 3, 6, 3], [5, 5, 7, 7]], np.float32)
    masks = np.zeros((5, 8, 8), np.uint8)
    masks[:4, 2, 2] = 1
    crowd = np.array([False, True, False, False, False])
    objects = Objects((8, 8), boxes, np.arange(1, 6), np.ones(5, np.float32), crowd, masks)
    found = learnable(objects)
    assert sorted(found) == ["boxes", "labels", "masks"]
    np.testing.assert_array_equal(found["boxes"], boxes[:1])
    np.testing.assert_array_equal(found["labels"], [1])
    np.testing.assert_array_equal(found["masks"], masks[:1])


def test_people_without_keypoints_teach_their_box() -> None:
    keypoints = np.zeros((2, 17, 3), np.float32)
    keypoints[0, 0] = (2.5, 2.5, 2)
    boxes = np.array([[1, 1, 4, 5], [4, 4, 8, 8]], np.float32)
    people = Objects(
        (8, 8), boxes, np.ones(2, np.int64), np.ones(2, np.float32), np.zeros(2, bool), keypoints=keypoints
    )
    found = learnable(people)
    assert sorted(found) == ["boxes", "keypoints", "labels"]
    np.testing.assert_array_equal(found["keypoints"], keypoints)


def test_no_objects() -> None:
    none = Objects(
        (8, 8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, bool),
        np.zeros((0, 8, 8), np.uint8),
    )  # fmt: skip
    found = learnable(none)
    assert (found["boxes"].shape, found["masks"].shape) == ((0, 4), (0, 8, 8))


def test_panoptic_segments_become_objects_and_a_semantic_map() -> None:
    """Ids out of order: 9 a dog, 4 sky, 7 a crowd of people, 2 a person that the crop has cut away; 0 is void."""
    ids = np.array([[0, 4, 4, 4], [9, 9, 4, 7], [9, 0, 7, 7]], np.int32)
    segments = Segments(ids, np.array([9, 4, 7, 2]), np.array([16, 119, 0, 0]), np.array([False, False, True, False]))
    found = get_task("panoptic_segmentation").train_target(segments)
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["boxes"], [[0, 1, 2, 3]])
    np.testing.assert_array_equal(found["labels"], [17])  # the dog: PANOPTIC's 16, among boxes 0 is background
    np.testing.assert_array_equal(found["masks"], [[[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]])
    sky = 119 - 80 + 1
    np.testing.assert_array_equal(found["semantic"], [[255, sky, sky, sky], [0, 0, sky, 0], [0, 255, 0, 0]])


def test_a_panoptic_target_without_things() -> None:
    segments = Segments(np.full((2, 3), 5, np.int32), np.array([5]), np.array([80]), np.zeros(1, bool))
    found = get_task("panoptic_segmentation").train_target(segments)
    assert isinstance(found, dict)
    assert (found["boxes"].shape, found["labels"].shape, found["masks"].shape) == ((0, 4), (0,), (0, 2, 3))
    np.testing.assert_array_equal(found["semantic"], 1)
