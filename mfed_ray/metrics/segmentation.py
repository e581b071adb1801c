"""Intersection over union and accuracy of label maps: semantic segmentation, human parts, stuff segmentation."""

from typing import Literal

import numpy as np

from mfed_ray.errors import DataError
from mfed_ray.labels import VOID
from mfed_ray.metrics.contract import Array
from mfed_ray.metrics.validation import INTEGER, check_alike, check_map


class MeanIoU:
    """Confusion matrix over all pixels of all images; target pixels of ``VOID`` do not count.

    ``compute`` gives, as fractions: ``miou``, the mean of IoU = TP / (TP + FP + FN) over classes, background included;
    ``iou/<class index>``, NaN for a class that the mean leaves out; ``pixel_accuracy``; and as COCO-Stuff's evaluation
    (Caesar, Uijlings, Ferrari, CVPR 2018) defines them, ``fwiou``, the sum of IoU times the class's share of the
    target, and ``mean_accuracy``, the mean of TP / (TP + FN) over the target's classes.

    The mean is ``over`` "any" class that occurs in a target or a prediction (PASCAL VOC; ASTMT, which counts a class
    that occurs nowhere as 0, agrees wherever every class occurs), or over those of the "target" only (COCO-Stuff).
    """

    def __init__(self, classes: int, *, over: Literal["any", "target"] = "any") -> None:
        self._over = over
        self._confusion = np.zeros((classes, classes), dtype=np.int64)

    def update(self, prediction: Array, target: Array) -> None:
        """Add one image: predicted classes, integers [H, W], and the target, uint8 [H, W].

        Raises DataError for another shape or type, floats among them, and for classes that do not exist.
        """
        check_map("mean IoU", prediction, target, INTEGER)
        counted = target != VOID
        pair = np.stack([target[counted], prediction[counted]]).astype(np.int64)
        classes = len(self._confusion)
        for kind, values in zip(("target", "prediction"), pair, strict=True):
            outside = values[(values < 0) | (values >= classes)]
            if outside.size:
                raise DataError(f"mean IoU: the {kind} holds class {outside[0]}; allowed are 0 to {classes - 1}")
        self._confusion += np.bincount(pair[0] * classes + pair[1], minlength=classes**2).reshape(classes, classes)

    def merge(self, other: "MeanIoU") -> None:
        """Add the counts of another instance. Raises DataError if it has other classes or another mean."""
        own, others = ((len(metric._confusion), metric._over) for metric in (self, other))
        check_alike("mean IoU", own, others)
        self._confusion += other._confusion

    def compute(self) -> dict[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        hits = np.diag(self._confusion)
        actual = self._confusion.sum(axis=1)
        iou = _share(hits, actual + self._confusion.sum(axis=0) - hits)
        if self._over == "target":
            iou[actual == 0] = np.nan
        values = dict.fromkeys(("miou", "fwiou", "pixel_accuracy", "mean_accuracy"), float("nan"))
        total = actual.sum()
        if total:
            values["miou"] = float(np.nanmean(iou))
            values["fwiou"] = float(np.nansum(iou * actual) / total)
            values["pixel_accuracy"] = float(hits.sum() / total)
            values["mean_accuracy"] = float(np.nanmean(_share(hits, actual)))
        return values | {f"iou/{index}": float(value) for index, value in enumerate(iou)}


def _share(part: Array, whole: Array) -> Array:
    """The quotient; NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))
