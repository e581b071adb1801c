"""Where a COCO 2017 folder has what, and which label a category of a file has in arrays."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfed_ray.coco_categories import PANOPTIC, STUFF, THINGS
from mfed_ray.errors import DataError

FOLDERS: Mapping[str, str] = {"train": "train2017", "val": "val2017"}
"""The folder of each split's images."""

FILES: Mapping[str, str] = {
    "instance_segmentation": "instances",
    "keypoint_detection": "person_keypoints",
    "stuff_segmentation": "stuff",
    "panoptic_segmentation": "panoptic",
}
"""How the annotation file of each task begins."""

LABELS: Mapping[str, Mapping[int, int]] = {
    "instance_segmentation": {one.id: label for label, one in enumerate(THINGS, start=1)},
    "keypoint_detection": {THINGS[0].id: 1},
    "stuff_segmentation": {one.id: label for label, one in enumerate(STUFF)},
    "panoptic_segmentation": {one.id: label for label, one in enumerate(PANOPTIC)},
}
"""The label of each category id, by task."""

NAMES: Mapping[int, str] = {one.id: one.name for one in (*STUFF, *PANOPTIC)}
"""COCO's name of each category id, one for all tasks."""


def annotation_file(root: Path, task: str, folder: str) -> Path:
    """The task's annotation file of the split whose images are in ``folder``."""
    return root / "annotations" / f"{FILES[task]}_{folder}.json"


def is_folder(path: Path) -> bool:
    """Whether it is a folder. Raises DataError if that cannot be known, as below a folder that may not be entered."""
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at ({error.strerror})") from error


def is_missing(path: Path) -> bool:
    """Whether there is surely no such file: where that cannot be known, opening it will say why."""
    try:
        return not path.is_file()
    except OSError:
        return False


def to_labels(task: str, categories: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels of category ids (0 or more), -1 where the task has no such category."""
    known = LABELS[task]
    labels = np.full(max(known) + 2, -1)  # the last: for every id above the known ones
    labels[list(known)] = list(known.values())
    return labels[np.minimum(categories, max(known) + 1)]
