"""Conversions between continuous coordinates and those of COCO's files, worked by hand."""

import numpy as np

from mfed_ray.annotations import corner_and_size, pixel_indices


def test_boxes_as_corner_and_size_without_rounding() -> None:
    boxes = np.array([[1, 2, 4, 8], [0.1, 0, 1000.7, 0.3]], dtype=np.float32)
    converted = corner_and_size(boxes)
    assert converted.dtype == np.float64
    assert converted[0].tolist() == [1, 2, 3, 6]
    # In float32 this width would be rounded once more.
    assert converted[1, 2] == float(boxes[1, 2]) - float(boxes[1, 0])
    assert converted[1, 2] != boxes[1, 2] - boxes[1, 0]
    assert corner_and_size(np.zeros((0, 4), dtype=np.float32)).shape == (0, 4)


def test_keypoints_as_indices_of_pixels() -> None:
    keypoints = np.full((2, 17, 3), 2, dtype=np.float32)
    keypoints[1, 3] = (10.5, 0.25, 1)
    indices = pixel_indices(keypoints)
    assert indices.dtype == np.float64
    assert indices[0, 0].tolist() == [1.5, 1.5, 2]
    assert indices[1, 3].tolist() == [10, -0.25, 1]
    assert keypoints[0, 0, 0] == 2
