import numpy as np

from mfed_ray.data.coco.panoptic import count_pixels


def test_pixels_are_counted_by_hand() -> None:
    ids = np.array([[0, 0, 5], [5, 2, 5], [5, 5, 16777215]], np.int32)
    assert count_pixels(ids) == {0: 2, 2: 1, 5: 5, 16777215: 1}


def test_pixels_are_counted_as_numpy_does() -> None:
    ids = np.random.default_rng(0).integers(0, 9, (50, 40)).astype(np.int32)
    values, counts = np.unique(ids, return_counts=True)
    assert count_pixels(ids) == dict(zip(values.tolist(), counts.tolist(), strict=True))
