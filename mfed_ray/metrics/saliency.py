"""Saliency: maximum F-measure and maximum mean IoU over thresholds."""

import numpy as np

from mfed_ray.metrics.contract import Array
from mfed_ray.metrics.validation import FLOATING, check_map, check_probabilities

THRESHOLDS = np.linspace(0.2, 0.9, 15)
"""ASTMT's thresholds; a pixel is predicted salient where its probability is above."""

BETA_SQUARED = 0.3

_UNIT = 2**40
_EMPTY = 1e-12


class Saliency:
    """Precision, recall and foreground IoU of every image at every threshold, averaged over images as in ASTMT.

    Maninis, Radosavovic, Kokkinos, Attentive single-tasking of multiple tasks, CVPR 2019 (``eval_sal.py``). Target
    pixels other than 0 and 1 are void and do not count. ``compute`` gives, as fractions:

    - ``max_f``: the largest over the thresholds of (1 + beta^2) P R / (beta^2 P + R), where P and R are means over
      images and beta^2 = 0.3 (ASTMT's code has beta = 1, the literature after it 0.3)
    - ``max_miou``: the largest over the thresholds of the foreground IoU's mean over images

    An image that is empty in target and prediction has IoU 1, precision 0 and recall 0, as there. An image that is
    void throughout does not count; ASTMT's maps have no void.
    """

    def __init__(self) -> None:
        # Sums in units of 2^-40: integers add up to the same total in whatever order images and halves are added.
        self._sums = np.zeros((3, len(THRESHOLDS)), dtype=np.int64)
        self._images = 0

    def update(self, prediction: Array, target: Array) -> None:
        """Add one image: predicted probabilities, float [H, W], and the target, uint8 [H, W].

        Raises DataError for another shape or type, ClientError for a prediction that is not a probability.
        """
        check_map("saliency", prediction, target, FLOATING)
        check_probabilities("saliency", prediction)
        if not ((target == 0) | (target == 1)).any():
            return
        salient = _above(prediction[target == 1])
        hits, predicted = salient, salient + _above(prediction[target == 0])
        actual = np.count_nonzero(target == 1)
        union = predicted + actual - hits
        values = np.stack(
            [hits / (predicted + _EMPTY), hits / (actual + _EMPTY), np.where(union, hits, 1) / np.maximum(union, 1)]
        )
        self._sums += np.rint(values * _UNIT).astype(np.int64)
        self._images += 1

    def merge(self, other: "Saliency") -> None:
        """Add the counts of another instance."""
        self._sums += other._sums
        self._images += other._images

    def compute(self) -> dict[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        if self._images == 0:
            return {"max_f": float("nan"), "max_miou": float("nan")}
        precision, recall, iou = self._sums / (_UNIT * self._images)
        f = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall + _EMPTY)
        return {"max_f": float(f.max()), "max_miou": float(iou.max())}


def _above(probabilities: Array) -> Array:
    """How many of the probabilities lie above each threshold."""
    return len(probabilities) - np.searchsorted(np.sort(probabilities), THRESHOLDS, side="right")
