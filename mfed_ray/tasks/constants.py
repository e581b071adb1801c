"""For each kind of task the prediction that does best on given targets, if it is one at all pixels of all images.

What it reaches is the task's floor (``mfed_ray.tasks.floor``).
"""

from collections.abc import Callable, Iterable

import numpy as np

from mfed_ray.annotations import Detections, Prediction, Segments, Target
from mfed_ray.coco_categories import KEYPOINTS, PANOPTIC
from mfed_ray.labels import VOID

Constant = Callable[[int, int], Prediction]
"""The prediction for an image of this height and width."""


def most_frequent_class(targets: Iterable[Target]) -> Constant:
    """The class of most pixels everywhere, for targets uint8 [H, W].

    It has the best mean IoU of all classes: its IoU is its share of the pixels, that of all others is 0.
    """
    counts = np.zeros(VOID, np.int64)
    for target in targets:
        counts += np.bincount(target.reshape(-1), minlength=VOID + 1)[:VOID]
    label = int(counts.argmax())
    return lambda height, width: np.full((height, width), label)


def undecided(targets: Iterable[Target]) -> Constant:
    """The probability 1/2 everywhere, whatever the targets.

    Thresholds up to it call every pixel positive, those above it none; a metric that takes the best threshold thus
    takes the better of the two.
    """
    del targets
    return lambda height, width: np.full((height, width), 0.5)


def mean_direction(targets: Iterable[Target]) -> Constant:
    """The mean vector everywhere, for unit vectors float32 [H, W, 3].

    No direction has a larger mean cosine, and so hardly any a smaller mean angle.
    """
    total = np.zeros(3)
    for target in targets:
        total += target.sum(axis=(0, 1), dtype=np.float64)
    return lambda height, width: np.broadcast_to(total, (height, width, 3))


def nothing_found(targets: Iterable[Target]) -> Constant:
    """No object, whatever the targets: precision and recall are 0."""
    del targets
    numbers, labels = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return lambda height, width: Detections(
        (height, width),
        numbers.reshape(0, 4),
        labels,
        scores=numbers,
        masks=np.zeros((0, height, width), np.uint8),
        keypoints=numbers.reshape(0, len(KEYPOINTS), 3),
    )


def one_segment(targets: Iterable[Target]) -> Constant:
    """One segment over the whole image, for ``Segments``: of the class with the best panoptic quality.

    It matches where its class has a segment on more than half of the pixels; IoU is then that share. Of N images and
    n_c segments of the class TP match: PQ_c = sum IoU / (TP + (N - TP)/2 + (n_c - TP)/2), and 0 for all others.
    """
    images, iou, segments = 0, np.zeros(len(PANOPTIC)), np.zeros(len(PANOPTIC))
    for target in targets:
        images += 1
        sizes = np.array([np.count_nonzero(target.map == number) for number in target.ids])
        counted = np.ones(len(sizes), bool) if target.crowd is None else ~target.crowd
        shares = sizes / max(1, np.count_nonzero(target.map))
        np.add.at(iou, target.labels[counted], np.where(shares > 0.5, shares, 0)[counted])
        np.add.at(segments, target.labels[counted], 1)
    label = np.array([(2 * iou / (images + segments)).argmax()])
    return lambda height, width: Segments(np.ones((height, width), np.int32), np.ones(1, np.int64), label)
