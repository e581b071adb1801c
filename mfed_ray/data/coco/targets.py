"""What the columns say of an image, as the target of each task."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import Objects, Target
from mfed_ray.data.coco.masks import decode_masks
from mfed_ray.data.coco.panoptic import read_segments
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table, positive
from mfed_ray.labels import VOID

Read = tuple[Target, list[Problem]]
"""An image's target, and what is wrong with it."""


def _instances(table: Table, position: int) -> Read:
    masks, problems = decode_masks(table, position)
    return _objects(table, position, masks=masks), problems


def _people(table: Table, position: int) -> Read:
    """Indices of pixels to coordinates: half a pixel more, where the keypoint is labelled; else all zero."""
    found = table.keypoints[table.span(position)]
    labelled = found[:, :, 2:] > 0
    keypoints = np.where(labelled, found + np.array([0.5, 0.5, 0], np.float32), np.float32(0))
    return _objects(table, position, keypoints=keypoints), []


def _stuff(table: Table, position: int) -> Read:
    masks, problems = decode_masks(table, position)
    target = np.full(table.size(position), VOID, np.uint8)
    for label, mask in zip(table.of_image(position)["label"], masks, strict=True):
        target[mask > 0] = label
    return target, problems


def _objects(
    table: Table,
    position: int,
    masks: NDArray[np.uint8] | None = None,
    keypoints: NDArray[np.float32] | None = None,
) -> Objects:
    rows = table.of_image(position)
    return Objects(
        table.size(position),
        np.array(rows["box"]),
        rows["label"].astype(np.int64),
        np.array(rows["area"]),
        np.array(rows["crowd"]),
        masks,
        keypoints,
        int(table.ids[position]),
    )


TARGETS: Mapping[str, Callable[[Table, int], Read]] = {
    "instance_segmentation": _instances,
    "keypoint_detection": _people,
    "stuff_segmentation": _stuff,
    "panoptic_segmentation": read_segments,
}


def teaches(table: Table, position: int) -> bool:
    """Whether training on the image teaches the table's task anything.

    Objects must have one that is no crowd and of positive size; people one such with a labelled keypoint; stuff and
    panoptic segmentation any annotation.
    """
    rows = table.of_image(position)
    if table.task in ("stuff_segmentation", "panoptic_segmentation"):
        return len(rows) > 0
    good = positive(rows) & ~rows["crowd"]
    if table.task == "keypoint_detection":
        good &= (table.keypoints[table.span(position), :, 2] > 0).any(axis=1)
    return bool(good.any())


def largest_thing(table: Table, position: int) -> int:
    """The label 1..80 of the objects with the largest area together, crowds aside, the lowest on a tie; 0 if none."""
    rows = table.of_image(position)
    labels = rows["label"].astype(np.int64)
    if table.task == "panoptic_segmentation":
        labels = np.where(labels < 80, labels + 1, 0)
    if table.task == "stuff_segmentation":
        labels = np.zeros_like(labels)
    areas = np.bincount(labels, weights=np.where(rows["crowd"], 0, rows["area"]), minlength=1)
    areas[0] = 0
    return int(areas.argmax())
