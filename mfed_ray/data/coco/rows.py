"""What is wrong with the annotations that an annotation file has, seen one by one."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.data.coco.layout import LABELS, to_labels
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table, positive

Marks = NDArray[np.bool_]

_SLACK = 1.0  # pixels that a box or a keypoint may be out of its image


def wrong_rows(table: Table, found: NDArray[np.void]) -> Iterator[Problem]:
    """Of the table's rows, each as the file has it in ``found`` (ENTRY): ids, categories, boxes and keypoints."""
    owners = np.repeat(np.arange(len(table.ids)), np.diff(table.starts))
    wrong = {
        "duplicate annotation id": _again(table, found),
        "unknown category": to_labels(table.task, found["category"]) < 0,
        "box outside image": _outside(table, found, owners),
        "zero-size box": ~positive(table.rows),
    }
    for kind, where in wrong.items():
        for row in np.flatnonzero(where):
            at = int(owners[row])
            yield Problem(kind, table.path, table.name_row(at, found["id"][row]), _message(kind, found[row], table, at))
    if table.task == "keypoint_detection":
        yield from _wrong_keypoints(table, found, owners)


def _again(table: Table, found: NDArray[np.void]) -> Marks:
    """Which rows have the id of one before them; segments of panoptic are numbered anew in each image."""
    again = np.ones(len(found), np.bool_)
    again[np.unique(found["id"], return_index=True)[1]] = False
    return again & (table.task != "panoptic_segmentation")


def _outside(table: Table, found: NDArray[np.void], owners: NDArray[np.int64]) -> Marks:
    corner, extent = found["bbox"][:, :2], found["bbox"][:, 2:]
    outside = (corner < -_SLACK) | (corner + extent > table.sizes[owners, ::-1] + _SLACK)
    return np.asarray(outside.any(axis=1))


def _message(kind: str, row: np.void, table: Table, position: int) -> str:
    if kind == "duplicate annotation id":
        return "the file has an annotation of this id before"
    if kind == "unknown category":
        known = sorted(LABELS[table.task])
        return f"category_id {row['category']} found, allowed are the {len(known)} of COCO, {known[0]} to {known[-1]}"
    box = ", ".join(f"{value:g}" for value in row["bbox"])
    if kind == "zero-size box":
        return f"bbox [{box}] found, width and height must be above 0"
    return f"bbox [{box}] leaves {_size(table, position)}"


def _size(table: Table, position: int) -> str:
    height, width = table.size(position)
    return f"its image of {width} x {height} pixels (width x height) by more than {_SLACK:g}"


def _wrong_keypoints(table: Table, found: NDArray[np.void], owners: NDArray[np.int64]) -> Iterator[Problem]:
    """Keypoints with another visibility than 0, 1 or 2, outside the image, or not as many as said, person by person."""
    points, visibility = table.keypoints[:, :, :2], table.keypoints[:, :, 2]
    last = table.sizes[owners, None, ::-1] - 1  # keypoints are indices of pixels
    outside = ((points < -_SLACK) | (points > last + _SLACK)).any(axis=2) & (visibility > 0)
    strange = ~np.isin(visibility, (0, 1, 2))
    labelled = (visibility > 0).sum(axis=1)
    miscounted = (found["num_keypoints"] >= 0) & (found["num_keypoints"] != labelled)
    for row in np.flatnonzero(strange.any(axis=1) | outside.any(axis=1) | miscounted):
        at = int(owners[row])
        messages = {
            "wrong visibility": _visibilities(visibility[row], strange[row]),
            "keypoint outside image": _places(points[row], outside[row], _size(table, at)),
            "num_keypoints disagrees": _count(found["num_keypoints"][row], labelled[row]) if miscounted[row] else "",
        }
        for kind, message in messages.items():
            if message:
                yield Problem(kind, table.path, table.name_row(at, found["id"][row]), message)


def _visibilities(visibility: NDArray[np.float32], wrong: Marks) -> str:
    told = ", ".join(f"{visibility[one]:g} of {KEYPOINTS[one]}" for one in np.flatnonzero(wrong))
    return f"visibility {told} found, must be 0, 1 or 2" if told else ""


def _places(points: NDArray[np.float32], outside: Marks, size: str) -> str:
    told = ", ".join(f"{KEYPOINTS[one]} [{points[one, 0]:g}, {points[one, 1]:g}]" for one in np.flatnonzero(outside))
    return f"{told} outside {size}" if told else ""


def _count(said: int, labelled: int) -> str:
    return f"num_keypoints {said} found, but {labelled} keypoints have a visibility above 0"
