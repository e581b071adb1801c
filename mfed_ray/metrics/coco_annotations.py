"""Objects and detections in the terms of COCOeval: the dictionaries that pycocotools makes of COCO's files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from mfed_ray.annotations import Detections, Objects, corner_and_size, pixel_indices
from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.errors import DataError
from mfed_ray.metrics.validation import check_finite

Annotation = dict[str, Any]

_NAME = "COCO objects"


def check_objects(prediction: Detections, target: Objects, labels: int) -> None:
    """Raise DataError for sizes that differ and labels outside 1..``labels``, ClientError for what is not finite."""
    if prediction.size != target.size:
        raise DataError(f"{_NAME}: the prediction is of an image of {prediction.size}, the target of {target.size}")
    for kind, found in (("prediction", prediction.labels), ("target", target.labels)):
        outside = found[(found < 1) | (found > labels)]
        if outside.size:
            raise DataError(f"{_NAME}: the {kind} holds label {outside[0]}; allowed are 1 to {labels}")
    for values in (prediction.scores, prediction.boxes, prediction.keypoints):
        if values is not None:
            check_finite(_NAME, values)


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
    masks = _given("masks", objects.masks, (len(objects.boxes), *objects.size))
    encoded: list[Annotation] = rle.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    return encoded


def _given(what: str, values: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    if values is None or values.shape != shape:
        found = "missing" if values is None else f"of shape {values.shape}"
        raise DataError(f"{_NAME}: {what} are {found}; the boxes and the image's size ask for {shape}")
    return values
