"""Panoptic quality, as COCO's panoptic API counts it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import Segments
from mfed_ray.coco_categories import PANOPTIC, THINGS
from mfed_ray.errors import DataError
from mfed_ray.metrics.validation import FLAG, INTEGER, check_array, check_shape

_NAME = "panoptic quality"
_UNIT = 2**40

Counts = NDArray[np.int64]


class _Image(NamedTuple):
    """One image's target and prediction, T and P segments.

    ``truth`` and ``found``: their labels, [T] and [P]; ``crowd``: bool [T]; ``shared``: [1 + T, 1 + P], the pixels
    that two segments share, row 0 and column 0 those of void.
    """

    truth: Counts
    found: Counts
    crowd: NDArray[np.bool_]
    shared: Counts


class PanopticQuality:
    """PQ = SQ x RQ of Kirillov et al., Panoptic Segmentation, CVPR 2019, with the API's handling of void and crowd.

    Segments of one class match where their IoU exceeds 0.5; the union leaves out the prediction's pixels on void. A
    crowd region matches nothing and is not missed (FN); a prediction that matches nothing is not a false positive (FP)
    if more than half of it lies on void and the crowd region of its class: as in the API the one listed last, should
    an image have several (COCO's files hold no more than one). ``compute`` gives, as fractions:

    - ``pq/<label>``: the sum of matches' IoU / (TP + FP / 2 + FN / 2), NaN for a class that occurs nowhere
    - ``pq``, ``sq`` (mean IoU of matches, 0 without any), ``rq`` (TP / (TP + FP / 2 + FN / 2)): means over the classes
      with TP + FP + FN > 0; ``pq_things``, ``pq_stuff`` and so on: over those of the 80 things, the 53 stuff classes
    """

    def __init__(self) -> None:
        # TP, FP, FN, and the matches' IoU in units of 2^-40: integers add up to the same in whatever order.
        self._counts = np.zeros((4, len(PANOPTIC)), dtype=np.int64)

    def update(self, prediction: Segments, target: Segments) -> None:
        """Add one image.

        A listed segment without a pixel is missed in the target, as by the API, and nothing in the prediction. Raises
        DataError for maps of different shapes, other types or lengths, ids that are listed twice or below 1, segments
        of a map that are not listed, labels that do not exist.
        """
        for kind, segments in (("prediction", prediction), ("target", target)):
            _check(kind, segments)
        check_shape(_NAME, prediction.map, target.map.shape)
        image = _overlay(prediction, target)
        iou = _matched_iou(image)
        matched = iou > 0
        hit = matched.any(axis=0)
        self._counts += np.stack(
            [
                _per_class(image.found[hit]),
                _per_class(image.found[_wrong_alone(image) & ~hit]),
                _per_class(image.truth[~matched.any(axis=1) & ~image.crowd]),
                _per_class(image.found, np.rint(iou.sum(axis=0) * _UNIT)),
            ]
        )

    def merge(self, other: "PanopticQuality") -> None:
        """Add the counts of another instance."""
        self._counts += other._counts

    def compute(self) -> dict[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        hits, wrong, missed, units = self._counts
        iou = units / _UNIT
        weight = hits + wrong / 2 + missed / 2
        present = weight > 0
        per_class = {
            "pq": np.divide(iou, weight, out=np.full(len(iou), np.nan), where=present),
            "sq": iou / np.maximum(hits, 1),
            "rq": hits / np.where(present, weight, 1),
        }
        things = np.arange(len(PANOPTIC)) < len(THINGS)
        groups = {"": present, "_things": present & things, "_stuff": present & ~things}
        means = {
            name + suffix: float(values[group].mean()) if group.any() else float("nan")
            for suffix, group in groups.items()
            for name, values in per_class.items()
        }
        return means | {f"pq/{label}": float(value) for label, value in enumerate(per_class["pq"])}


def _check(kind: str, segments: Segments) -> None:
    check_array(_NAME, f"{kind}'s map", segments.map, INTEGER, 2)
    check_array(_NAME, f"{kind}'s ids", segments.ids, INTEGER)
    check_array(_NAME, f"{kind}'s labels", segments.labels, INTEGER)
    if segments.crowd is not None:
        check_array(_NAME, f"{kind}'s crowd", segments.crowd, FLAG)
    shape = (segments.ids.size,)
    for name, values in (("ids", segments.ids), ("labels", segments.labels), ("crowd", segments.crowd)):
        if values is not None and values.shape != shape:
            raise DataError(f"{_NAME}: the {kind}'s {name} are of shape {values.shape}; allowed is {shape}")
    if np.unique(segments.ids).size < segments.ids.size or (segments.ids < 1).any():
        raise DataError(f"{_NAME}: the {kind}'s ids are {segments.ids.tolist()}; allowed is each once, from 1")


def _overlay(prediction: Segments, target: Segments) -> _Image:
    rows, columns = _positions(target, "target"), _positions(prediction, "prediction")
    shape = 1 + len(target.ids), 1 + len(prediction.ids)
    shared = np.bincount((rows * shape[1] + columns).reshape(-1), minlength=shape[0] * shape[1]).reshape(shape)
    crowd = np.zeros(len(target.ids), dtype=bool) if target.crowd is None else target.crowd
    return _Image(target.labels, prediction.labels, crowd, shared)


def _positions(segments: Segments, kind: str) -> Counts:
    """Each pixel's place among the segments, counted from 1, and 0 where it is void: [H, W]."""
    outside = segments.labels[(segments.labels < 0) | (segments.labels >= len(PANOPTIC))]
    if outside.size:
        raise DataError(f"{_NAME}: the {kind} holds label {outside[0]}; allowed are 0 to {len(PANOPTIC) - 1}")
    in_map, inverse = np.unique(segments.map, return_inverse=True)
    listed = np.concatenate([[0], segments.ids])
    unlisted = np.setdiff1d(in_map, listed)
    if unlisted.size:
        raise DataError(f"{_NAME}: the {kind}'s map holds segment {unlisted[0]}, which its ids do not list")
    order = np.argsort(listed, kind="stable")
    return order[np.searchsorted(listed[order], in_map)][inverse]


def _matched_iou(image: _Image) -> NDArray[np.float64]:
    """IoU of the segments that match, 0 of all other pairs: [T, P]. No segment has two matches, for they exceed 1/2."""
    shared = image.shared[1:, 1:]
    union = image.shared[1:].sum(axis=1)[:, None] + shared.sum(axis=0)[None] - shared
    iou = shared / np.maximum(union, 1)
    same = (image.truth[:, None] == image.found[None]) & ~image.crowd[:, None]
    return np.where(same & (iou > 0.5), iou, 0)


def _wrong_alone(image: _Image) -> NDArray[np.bool_]:
    """Which predictions are wrong unless they match: not more than half on void and their class's crowd, bool [P]."""
    crowd = (image.truth[:, None] == image.found[None]) & _last_crowds(image)[:, None]
    excused = image.shared[0, 1:] + (image.shared[1:, 1:] * crowd).sum(axis=0)
    area = image.shared[:, 1:].sum(axis=0)
    return np.asarray((excused * 2 <= area) & (area > 0))


def _last_crowds(image: _Image) -> NDArray[np.bool_]:
    """Which crowds have none of their class listed after them, bool [T]."""
    superseded = np.triu((image.truth[:, None] == image.truth[None]) & image.crowd[None], 1).any(axis=1)
    return np.asarray(image.crowd & ~superseded)


def _per_class(labels: Counts, weights: NDArray[np.float64] | None = None) -> Counts:
    return np.bincount(labels, weights, minlength=len(PANOPTIC)).astype(np.int64)
