"""PASCAL-Part annotations to the six-part labels of the multi-task benchmark.

Chen et al., Detect What You Can (CVPR 2014), for the annotations; the merging into six parts follows ASTMT
(Maninis et al., CVPR 2019).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.files import read_mat
from mfed_ray.errors import DataError
from mfed_ray.labels import PART_CLASSES, PERSON

_HEAD, _TORSO, _UPPER_ARM, _LOWER_ARM, _UPPER_LEG, _LOWER_LEG = range(1, len(PART_CLASSES))

PART_OF_NAME = {
    "head": _HEAD, "hair": _HEAD, "lear": _HEAD, "rear": _HEAD, "leye": _HEAD, "reye": _HEAD, "lebrow": _HEAD,
    "rebrow": _HEAD, "nose": _HEAD, "mouth": _HEAD,
    "neck": _TORSO, "torso": _TORSO,
    "luarm": _UPPER_ARM, "ruarm": _UPPER_ARM,
    "llarm": _LOWER_ARM, "rlarm": _LOWER_ARM, "lhand": _LOWER_ARM, "rhand": _LOWER_ARM,
    "luleg": _UPPER_LEG, "ruleg": _UPPER_LEG,
    "llleg": _LOWER_LEG, "rlleg": _LOWER_LEG, "lfoot": _LOWER_LEG, "rfoot": _LOWER_LEG,
}  # fmt: skip
"""Label (1..6) of every name that PASCAL-Part gives to a part of a person."""


def has_human_parts(path: Path) -> bool:
    """Whether the file annotates a person with at least one part. Raises DataError as ``read_human_parts``."""
    return bool(_person_parts(path))


def read_human_parts(path: Path) -> NDArray[np.uint8]:
    """Part labels, uint8 [H, W], 0 background and 1..6 (``PART_CLASSES``).

    Raises DataError if the file is missing or unreadable, names an unknown part, or has no person with parts.
    """
    parts = _person_parts(path)
    if not parts:
        raise DataError(f"{path}: no person with parts, the image has no target for human_parts")
    labels = np.zeros(parts[0][1].shape, np.uint8)
    for name, mask in parts:  # where parts overlap the later one stays, as in ASTMT
        if name not in PART_OF_NAME:
            raise DataError(f"{path}: part {name!r} of a person is unknown, allowed: {', '.join(PART_OF_NAME)}")
        labels[mask.astype(bool)] = PART_OF_NAME[name]
    return labels


def _person_parts(path: Path) -> list[tuple[str, NDArray[Any]]]:
    """Name and mask of each part of each person, in the file's order."""
    anno = read_mat(path, "anno")
    try:
        persons = [thing for thing in anno[0, 0]["objects"].flat if int(thing["class_ind"].item()) == PERSON]
        return [(str(part["part_name"].item()), part["mask"]) for person in persons for part in person["parts"].flat]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: 'anno' is not a PASCAL-Part annotation ({error})") from error
