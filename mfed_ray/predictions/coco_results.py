"""Detected objects in COCO's result format."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from mfed_ray.annotations import Detections, corner_and_size, pixel_indices
from mfed_ray.coco_categories import THINGS
from mfed_ray.errors import DataError
from mfed_ray.predictions.drawing import NOTHING, Picture, overlay_folder
from mfed_ray.predictions.palette import colour, instance_colours

Kind = Literal["mask", "keypoint"]

MOST_DRAWN, LEAST_SCORE, OVERLAP = 10, 0.3, 0.3
"""An overlay shows so many objects at most, of this score at least and of half the best one's. Of two of a class whose
boxes have more than the overlap (IoU) in common, it shows the one that scores higher. Objects that score alike, as a
ground truth's do, are all shown or none."""


class CocoResults:
    """``results.json``, which ``COCO.loadRes`` reads: one entry per object with its box, score, and mask or keypoints.

    ``kind``: "mask" or "keypoint". An image's id is its name, as a number if it is one. ``loadRes`` takes an object's
    area from its box wherever there is one: to score masks or keypoints by size as ``CocoObjects`` does, drop the
    ``bbox`` first. ``overlays/<name>.png`` shows the best objects, or says that there
    are none.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self._path, self._overlays, self._kind = folder / "results.json", overlay_folder(folder), kind
        self._results: list[dict[str, Any]] = []

    def add(self, name: str, image: NDArray[np.uint8], prediction: Detections) -> None:
        """One image, uint8 [H, W, 3], and the objects found in it, with their masks or keypoints."""
        entries = _entries(image_id(name), prediction)
        self._results += [entry | shape for entry, shape in zip(entries, _shapes(prediction, self._kind), strict=True)]
        picture = Picture(image)
        _draw(picture, prediction, self._kind)
        picture.save(self._overlays / f"{name}.png")

    def close(self) -> None:
        """Write the results of all images."""
        self._path.write_text(json.dumps(self._results), encoding="utf-8")


def image_id(name: str) -> int | str:
    """What COCO's files call an image: ``000000000139`` is 139."""
    return int(name) if name.isascii() and name.isdigit() else name


def _entries(image: int | str, prediction: Detections) -> list[dict[str, Any]]:
    boxes = corner_and_size(prediction.boxes)
    return [
        {"image_id": image, "category_id": THINGS[label - 1].id, "bbox": box, "score": score}
        for label, box, score in zip(prediction.labels, boxes.tolist(), prediction.scores.tolist(), strict=True)
    ]


def _shapes(prediction: Detections, kind: Kind) -> list[dict[str, Any]]:
    """Masks as run lengths in text, or keypoints as x, y, visibility, with the pixels' indices for x and y."""
    if kind == "keypoint":
        keypoints = pixel_indices(_given(prediction.keypoints, "keypoints"))
        return [{"keypoints": points.reshape(-1).tolist()} for points in keypoints]
    encoded = rle.encode(np.asfortranarray(_given(prediction.masks, "masks").transpose(1, 2, 0)))
    return [{"segmentation": {"size": one["size"], "counts": one["counts"].decode()}} for one in encoded]


def _given(values: NDArray[Any] | None, what: str) -> NDArray[Any]:
    if values is None:
        raise DataError(f"COCO results: a prediction has no {what}, which results of its kind must have")
    return values


def _draw(picture: Picture, prediction: Detections, kind: Kind) -> None:
    """Draw the best objects, the best of all last."""
    best_first = best(prediction)
    names = [THINGS[label - 1].name for label in prediction.labels[best_first]]
    # People are told apart by hue where there is nobody else.
    hues = instance_colours(names) if kind == "mask" else [colour(number) for number in range(len(names))]
    colours, shown = dict(zip(best_first, hues, strict=True)), best_first[::-1]
    for index in shown:
        if kind == "mask":
            mask = _given(prediction.masks, "masks")[index]
            picture.tint(np.where(mask > 0, 0, -1), [colours[index]])
        else:
            picture.skeleton(_given(prediction.keypoints, "keypoints")[index], colours[index])
    for index, name in zip(shown, names[::-1], strict=True):
        picture.box(prediction.boxes[index], f"{name} {prediction.scores[index]:.2f}", colours[index])
    if not shown:
        highest = prediction.scores.max(initial=0)
        picture.note(f"{NOTHING} (best score {highest:.2f})" if highest else NOTHING)


def best(prediction: Detections) -> list[int]:
    """Which objects an overlay shows, the best first."""
    scores, labels, kept = prediction.scores, prediction.labels, list[int]()
    for index in np.argsort(-scores, kind="stable").tolist():
        full = len(kept) >= MOST_DRAWN and scores[index] < scores[kept[-1]]
        if full or scores[index] < max(LEAST_SCORE, scores.max() / 2):
            break
        hiding = [other for other in kept if labels[other] == labels[index] and scores[other] > scores[index]]
        if not (_overlaps(prediction.boxes[index], prediction.boxes[hiding]) > OVERLAP).any():
            kept.append(index)
    return kept


def _overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of a box, x1 y1 x2 y2, with each of the others [N, 4]; 0 of boxes without area."""
    sides = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(min=0)
    common = sides.prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - common
    shares: NDArray[np.float32] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares
