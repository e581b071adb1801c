"""Objects: COCO's average precision and recall of boxes, masks and keypoints, counted by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from mfed_ray.annotations import Detections, Objects
from mfed_ray.coco_categories import THINGS
from mfed_ray.metrics.coco_annotations import Annotation, annotated_objects, check_objects, detected_objects
from mfed_ray.metrics.validation import check_alike

Kind = Literal["mask", "keypoint"]

_SIZES = ("small", "medium", "large")
_PRECISIONS = ("ap", "ap50", "ap75")
_STATISTICS = (
    *_PRECISIONS, *(f"ap_{size}" for size in _SIZES), "ar1", "ar10", "ar100", *(f"ar_{size}" for size in _SIZES)
)  # fmt: skip
_KEYPOINT_STATISTICS = (*_PRECISIONS, "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
_NAMES = {
    "bbox": [f"box_{name}" for name in _STATISTICS],
    "segm": [f"mask_{name}" for name in _STATISTICS],
    "keypoints": [f"keypoint_{name}" for name in _KEYPOINT_STATISTICS],
}
"""The numbers that COCOeval summarises, in its order, by its name of what is compared."""


@dataclass(frozen=True)
class _Matches:
    """What is kept of an image's objects of one label: D scored, G annotated; A size ranges, T thresholds of IoU.

    ``scores``: [D], best first; ``matched`` and ``ignored``: bool [A, T, D]; ``uncounted``: bool [A, G].
    """

    scores: NDArray[np.floating]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    uncounted: NDArray[np.bool_]

    def entry(self, size: int) -> Annotation:
        """COCOeval's own record, as far as it is read again, of the size range with this index."""
        return {
            "dtScores": self.scores,
            "dtMatches": self.matched[size],
            "dtIgnore": self.ignored[size],
            "gtIgnore": self.uncounted[size],
        }


class _Image(NamedTuple):
    """An image's number, and its matches by what is compared and by label."""

    number: int
    matches: Mapping[str, Mapping[int, _Matches]]


class CocoObjects:
    """COCOeval of instances (``kind`` "mask": boxes and masks) or of people ("keypoint": boxes and keypoints).

    Each image is matched when it is added and only scores and flags are kept, so memory does not grow with masks.
    ``compute`` gives COCOeval's numbers, to the last bit, as fractions, NaN where it says -1 (nothing to count):

    - ``box_`` and ``mask_`` each with ``ap`` (mean over IoU 0.5, 0.55 .. 0.95), ``ap50``, ``ap75``, ``ap_small`` (area
      up to 32^2), ``ap_medium``, ``ap_large`` (from 96^2), ``ar1``, ``ar10``, ``ar100`` (recall with so many detections
      an image), ``ar_small``, ``ar_medium``, ``ar_large``
    - ``keypoint_`` with ``ap``, ``ap50``, ``ap75``, ``ap_medium``, ``ap_large``, ``ar``, ``ar50``, ``ar75``,
      ``ar_medium``, ``ar_large``, by object keypoint similarity; people without a labelled keypoint are not counted

    A detection's area is what ``COCO.loadRes`` takes: of its box, its mask, or the extent of its keypoints, each in a
    file of its own. Equal scores keep the order of the images' numbers (``Objects.image``), as in COCOeval, and in an
    image that of the detections; so neither the order of images nor that of merging changes a bit. Images of one number
    keep the order in which they were added.
    """

    def __init__(self, kind: Kind) -> None:
        self._labels = len(THINGS) if kind == "mask" else 1
        self._compared = "bbox", "segm" if kind == "mask" else "keypoints"
        self._images: list[_Image] = []

    def update(self, prediction: Detections, target: Objects) -> None:
        """Add one image.

        Raises DataError for sizes, shapes, lengths and types that are wrong and for labels that do not exist,
        ClientError for predictions that are not finite.
        """
        check_objects(prediction, target, self._labels)
        matches = {
            compared: _match(compared, annotated_objects(target, compared), detected_objects(prediction, compared))
            for compared in self._compared
        }
        self._images.append(_Image(target.image, matches))

    def merge(self, other: "CocoObjects") -> None:
        """Add the images of another instance. Raises DataError if it is of another kind."""
        check_alike("COCO objects", self._compared, other._compared)
        self._images.extend(other._images)

    def compute(self) -> dict[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        values: dict[str, float] = {}
        images = sorted(self._images, key=lambda image: image.number)
        for compared in self._compared:
            found = _summarise(compared, [image.matches[compared] for image in images])
            values |= dict(zip(_NAMES[compared], found, strict=True))
        return values


def _match(compared: str, annotated: list[Annotation], detected: list[Annotation]) -> dict[int, _Matches]:
    """Match one image's detections with its objects, for each label present."""
    evaluation = COCOeval(iouType=compared)
    for found, annotations in ((evaluation._gts, annotated), (evaluation._dts, detected)):
        for annotation in annotations:
            found[0, annotation["category_id"]].append(annotation)
    similarity = evaluation.computeOks if compared == "keypoints" else evaluation.computeIoU
    matches = {}
    for label in {annotation["category_id"] for annotation in annotated + detected}:
        evaluation.ious = {(0, label): similarity(0, label)}
        limit, sizes = evaluation.params.maxDets[-1], evaluation.params.areaRng
        matches[label] = _compact([evaluation.evaluateImg(0, label, size, limit) for size in sizes])
    return matches


def _compact(records: Sequence[Annotation]) -> _Matches:
    flags = [np.stack([record[key] for record in records]) for key in ("dtMatches", "dtIgnore", "gtIgnore")]
    return _Matches(np.array(records[0]["dtScores"]), *(flag.astype(bool) for flag in flags))


def _summarise(compared: str, images: Sequence[Mapping[int, _Matches]]) -> list[float]:
    """COCOeval's numbers of all images, in its order."""
    evaluation = COCOeval(iouType=compared)
    settings = evaluation.params
    settings.imgIds = list(range(len(images)))
    settings.catIds = sorted(set().union(*images))
    evaluation._paramsEval = settings
    evaluation.evalImgs = [
        image[label].entry(size) if label in image else None
        for label in settings.catIds
        for size in range(len(settings.areaRng))
        for image in images
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    return [float("nan") if value == -1 else float(value) for value in evaluation.stats]
