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
from mfed_ray.predictions.drawing import Picture, overlay_folder
from mfed_ray.predictions.palette import class_colour, instance_colours

Kind = Literal["mask", "keypoint"]

MOST_DRAWN = 30
"""Objects of an image that the overlay shows, at most, and of these what scores at least half as much as the best."""


class CocoResults:
    """``results.json``, which ``COCO.loadRes`` reads: one entry per object with its box, score, and mask or keypoints.

    ``kind``: "mask" or "keypoint". An image's id is its name, as a number if it is one. ``loadRes`` takes an object's
    area from its box wherever there is one: to score masks or keypoints by size as ``CocoObjects`` does, drop the
    ``bbox`` first. ``overlays/<name>.png`` shows the best objects.
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
    scores = prediction.scores[:MOST_DRAWN]
    shown = np.flatnonzero(scores >= scores.max(initial=0) / 2)[::-1]
    labels = prediction.labels - 1
    # People are told apart by hue where there is nobody else.
    colours = instance_colours(labels) if kind == "mask" else [class_colour(index) for index in range(len(labels))]
    for index in shown:
        if kind == "mask":
            mask = _given(prediction.masks, "masks")[index]
            picture.tint(np.where(mask > 0, 0, -1), [colours[index]])
        else:
            picture.skeleton(_given(prediction.keypoints, "keypoints")[index], colours[index])
    for index in shown:
        text = f"{THINGS[labels[index]].name} {prediction.scores[index]:.2f}"
        picture.box(prediction.boxes[index], text, colours[index])
