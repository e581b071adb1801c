import numpy as np

from mfed_ray.data.coco.layout import to_labels


def test_labels_of_category_ids() -> None:
    ids = np.array([0, 1, 12, 90, 91, 92, 183, 200, 201, 10**15])
    assert to_labels("instance_segmentation", ids).tolist() == [-1, 1, -1, 80, -1, -1, -1, -1, -1, -1]
    assert to_labels("keypoint_detection", ids).tolist() == [-1, 1, -1, -1, -1, -1, -1, -1, -1, -1]
    assert to_labels("stuff_segmentation", ids).tolist() == [-1, -1, -1, -1, -1, 0, 91, -1, -1, -1]
    assert to_labels("panoptic_segmentation", ids).tolist() == [-1, 0, -1, 79, -1, 80, -1, 132, -1, -1]
