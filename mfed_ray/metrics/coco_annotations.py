"""Objects and detections in the terms of COCOeval: the dictionaries that pycocotools makes of COCO's files."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from mfed_ray.annotations import Detections, Objects, corner_and_size, pixel_indices
from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.errors import DataError
from mfed_ray.metrics.validation import FLAG, FLOATING, INTEGER, MASK, check_array, check_finite

Annotation = dict[str, Any]

_NAME = "COCO objects"


class _Field(NamedTuple):
    """What a field of objects and detections holds: its type, and its shape beyond one entry for each object."""

    allowed: str
    shape: tuple[int, ...] = ()


_FIELDS = {
    "boxes": _Field(FLOATING, (4,)),
    "labels": _Field(INTEGER),
    "areas": _Field(FLOATING),
    "scores": _Field(FLOATING),
    "crowd": _Field(FLAG),
    "keypoints": _Field(FLOATING, (len(KEYPOINTS), 3)),
}


def check_objects(prediction: Detections, target: Objects, labels: int) -> None:
    """Raise DataError for what an image's objects and detections may not be, ClientError for what is not finite.

    Not allowed are sizes that differ, fields of other types or lengths than ``_FIELDS`` says, masks of other values
    than 0 and 1, labels outside 1..``labels``, targets that are not finite.
    """
    for kind, objects in (("prediction", prediction), ("target", target)):
        _check_fields(kind, objects)
    if prediction.size != target.size:
        raise DataError(f"{_NAME}: the prediction is of an image of {prediction.size}, the target of {target.size}")
    for kind, found in (("prediction", prediction.labels), ("target", target.labels)):
        outside = found[(found < 1) | (found > labels)]
        if outside.size:
            raise DataError(f"{_NAME}: the {kind} holds label {outside[0]}; allowed are 1 to {labels}")
    for values in (prediction.scores, prediction.boxes, prediction.keypoints):
        if values is not None:
            check_finite(_NAME, values)
    for values in (target.areas, target.boxes, target.keypoints):
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"{_NAME}: the target holds a value that is not finite; all must be")


def _check_fields(kind: str, objects: Objects | Detections) -> None:
    """Raise DataError for a field that is not as ``_FIELDS`` says, and for masks that are not of zeros and ones."""
    for name, field in _FIELDS.items():
        values = getattr(objects, name, None)
        if values is None:
            continue
        check_array(_NAME, f"{kind}'s {name}", values, field.allowed)
        shape = len(objects.boxes), *field.shape
        if values.shape != shape:
            raise DataError(f"{_NAME}: the {kind}'s {name} are of shape {values.shape}; allowed is {shape}")
    if objects.masks is not None:
        check_array(_NAME, f"{kind}'s masks", objects.masks, MASK)
        if objects.masks.size and not 0 <= objects.masks.min() <= objects.masks.max() <= 1:
            raise DataError(f"{_NAME}: the {kind}'s masks hold {objects.masks.max()}; allowed are 0 and 1")


def annotated_objects(target: Objects, compared: str) -> list[Annotation]:
    """Objects as COCOeval holds them; ids count from 1, 0 would mean unmatched."""
    boxes = corner_and_size(target.boxes).tolist()
    annotations: list[Annotation] = [
        {
            "id": index + 1,
            "category_id": int(label),
            "bbox": box,
            "area": float(area),
            "iscrowd": crowd,
            "ignore": crowd,
        }
        for index, (label, box, area, crowd) in enumerate(
            zip(target.labels, boxes, target.areas, target.crowd.tolist(), strict=True)
        )
    ]
    if compared == "segm":
        for annotation, mask in zip(annotations, _encode(target), strict=True):
            annotation["segmentation"] = mask
    elif compared == "keypoints":
        for annotation, points in zip(annotations, _keypoints(target), strict=True):
            annotation["keypoints"] = points.reshape(-1)
            annotation["ignore"] |= not points[:, 2].any()
    return annotations


def detected_objects(prediction: Detections, compared: str) -> list[Annotation]:
    """Detections as COCOeval holds them, with the areas that ``COCO.loadRes`` gives them."""
    boxes = corner_and_size(prediction.boxes).tolist()
    annotations: list[Annotation] = [
        {"id": index + 1, "category_id": int(label), "score": float(score), "bbox": box, "area": box[2] * box[3]}
        for index, (label, score, box) in enumerate(zip(prediction.labels, prediction.scores, boxes, strict=True))
    ]
    if compared == "segm":
        for annotation, mask in zip(annotations, _encode(prediction), strict=True):
            annotation |= {"segmentation": mask, "area": int(rle.area(mask))}
    elif compared == "keypoints":
        for annotation, points in zip(annotations, _keypoints(prediction), strict=True):
            annotation |= {"keypoints": points.reshape(-1), "area": float(np.ptp(points[:, :2], axis=0).prod())}
    return annotations


def _keypoints(objects: Objects | Detections) -> NDArray[np.float64]:
    return pixel_indices(_given("keypoints", objects.keypoints, (len(objects.boxes), len(KEYPOINTS), 3)))


def _encode(objects: Objects | Detections) -> list[Annotation]:
    masks = _given("masks", objects.masks, (len(objects.boxes), *objects.size)).astype(np.uint8, copy=False)
    encoded: list[Annotation] = rle.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    return encoded


def _given(what: str, values: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    if values is None or values.shape != shape:
        found = "missing" if values is None else f"of shape {values.shape}"
        raise DataError(f"{_NAME}: {what} are {found}; the boxes and the image's size ask for {shape}")
    return values
