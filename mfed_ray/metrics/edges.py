"""Edge detection: the BSDS boundary benchmark's ODS, OIS and AP."""

import numpy as np
from numpy.typing import NDArray

from mfed_ray.boundaries import thin
from mfed_ray.labels import VOID
from mfed_ray.metrics.contract import Array
from mfed_ray.metrics.edge_matching import Reach, match, reach
from mfed_ray.metrics.edge_suppression import suppress
from mfed_ray.metrics.settings import EdgeProtocol
from mfed_ray.metrics.validation import FLOATING, INTEGER, check_alike, check_array, check_probabilities, check_shape

Counts = NDArray[np.int64]
"""[..., 4]: matched annotated pixels, annotated pixels, matched predicted pixels, predicted pixels."""

PASCAL = EdgeProtocol()


class EdgeDetection:
    """The BSDS500 benchmark (Arbelaez, Maire, Fowlkes, Malik, PAMI 2011; ``collect_eval_bdry.m``).

    At each of the thresholds k / (``thresholds`` + 1) the prediction is binarised (>=), thinned, and matched one to
    one with every annotator's edges within ``max_distance`` of the image's diagonal. Recall is the share of annotated
    pixels that are matched, summed over annotators and images; precision the share of predicted pixels that any
    annotator matches. Predicted pixels that are void (255) to every annotator do not count. Many papers suppress the
    prediction's non-maxima beforehand: ``nms``. ``compute`` gives fractions:

    - ``ods_f``, ``ods_precision``, ``ods_recall``, ``ods_threshold``: best F of the summed counts at one threshold
      for the dataset, precision and recall interpolated linearly between thresholds as there
    - ``ois_f``: F of the counts summed at each image's own best threshold
    - ``ap``: area under precision over recall, interpolated at 101 recalls, 0 outside those reached (so 0 for a
      prediction of zeros and ones, which reaches one recall)
    """

    def __init__(
        self,
        max_distance: float = PASCAL.max_distance,
        thresholds: int = PASCAL.thresholds,
        nms: bool = PASCAL.nms,
    ) -> None:
        self._nms = nms
        self._max_distance = max_distance
        self._thresholds = np.linspace(1 / (thresholds + 1), 1 - 1 / (thresholds + 1), thresholds)
        self._counts = np.zeros((thresholds, 4), dtype=np.int64)
        self._best = np.zeros(4, dtype=np.int64)
        self._images = 0

    @property
    def protocol(self) -> str:
        """What to write beside the result: published variants of this metric differ by points."""
        suppression = (
            "non-maximum suppression and thinning" if self._nms else "thinning without non-maximum suppression"
        )
        return f"BSDS, {len(self._thresholds)} thresholds, {suppression}, within {self._max_distance:g} of the diagonal"

    def update(self, prediction: Array, target: Array) -> None:
        """Add one image: edge probabilities, float [H, W], and annotators' thinned edges, uint8 [H, W, A] (1: edge).

        An image that is void throughout adds nothing. Raises DataError for another shape or type, ClientError for a
        prediction that is not a probability.
        """
        check_array("edge detection", "target", target, INTEGER, 3)
        check_array("edge detection", "prediction", prediction, FLOATING)
        check_shape("edge detection", prediction, target.shape[:2])
        check_probabilities("edge detection", prediction)
        known = (target != VOID).any(axis=2)
        if not known.any():
            return
        strength = suppress(prediction) if self._nms and min(prediction.shape) > 1 else prediction
        radius = self._max_distance * float(np.hypot(*prediction.shape))
        annotators = [reach((target[..., index] == 1).astype(np.uint8), radius) for index in range(target.shape[2])]
        counts = np.zeros_like(self._counts)
        size = -1
        for index, threshold in enumerate(self._thresholds):
            edges = strength >= threshold
            # Thresholds between which no pixel lies have the same edges.
            counts[index] = counts[index - 1] if edges.sum() == size else _count(edges, known, annotators)
            size = edges.sum()
        self._counts += counts
        self._best += counts[_f(*_precision_recall(counts)).argmax()]
        self._images += 1

    def merge(self, other: "EdgeDetection") -> None:
        """Add the counts of another instance. Raises DataError if it counts by another protocol."""
        own, others = ([metric._max_distance, len(metric._thresholds), metric._nms] for metric in (self, other))
        check_alike("edge detection", own, others)
        self._counts += other._counts
        self._best += other._best
        self._images += other._images

    def compute(self) -> dict[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        names = ("ods_f", "ods_precision", "ods_recall", "ods_threshold", "ois_f", "ap")
        if self._images == 0:
            return dict.fromkeys(names, float("nan"))
        precision, recall = _precision_recall(self._counts)
        best = _best_between(precision, recall, self._thresholds)
        ois = _f(*_precision_recall(self._best))
        return dict(zip(names, (*best, float(ois), _area(precision, recall)), strict=True))


def _count(edges: Array, known: Array, annotators: list[Reach]) -> Counts:
    pixels = np.flatnonzero(thin(edges) * known).astype(np.int32)
    matched = [match(pixels, annotator) for annotator in annotators]
    hits = sum(np.count_nonzero(used) for used in matched)
    united = np.logical_or.reduce(matched, axis=0, initial=False)
    return np.array([hits, sum(annotator.points for annotator in annotators), np.count_nonzero(united), len(pixels)])


def _precision_recall(counts: Counts) -> tuple[Array, Array]:
    matched_truth, truth, matched, predicted = np.moveaxis(counts, -1, 0)
    return matched / np.maximum(predicted, 1), matched_truth / np.maximum(truth, 1)


def _f(precision: Array, recall: Array) -> Array:
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1)


def _best_between(precision: Array, recall: Array, thresholds: Array) -> tuple[float, float, float, float]:
    """F, precision, recall and threshold at the best of 100 points between each threshold and the one before."""
    share = np.linspace(0, 1, 100)
    before = np.maximum(np.arange(len(thresholds)) - 1, 0)
    p, r, t = (
        (values[before, None] + np.outer(values - values[before], share)).ravel()
        for values in (precision, recall, thresholds)
    )
    f = _f(p, r)
    best = f.argmax()
    return float(f[best]), float(p[best]), float(r[best]), float(t[best])


def _area(precision: Array, recall: Array) -> float:
    reached, index = np.unique(recall, return_index=True)
    if len(reached) < 2:
        return 0.0
    curve = np.interp(np.linspace(0, 1, 101), reached, precision[index], left=0.0, right=0.0)
    return float(curve.sum() * 0.01)
