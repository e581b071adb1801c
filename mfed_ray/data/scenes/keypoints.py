"""COCO's 17 keypoints of a person, from the solids that it is built of and from how it was rendered."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.people import part_number
from mfed_ray.data.scenes.render import Layer, Pose
from mfed_ray.data.scenes.solids import Solid

_JOINTS = {
    "shoulder": ("uarm", 0, "uarm"), "elbow": ("uarm", 1, "larm"), "wrist": ("larm", 1, "hand"),
    "hip": ("uleg", 0, "uleg"), "knee": ("uleg", 1, "lleg"), "ankle": ("lleg", 1, "foot"),
}  # fmt: skip
"""The limb that a joint belongs to, whether the limb starts or ends there, and what continues it."""

_FACE = {
    "nose": (0.0, -0.1, 0.97), "left_eye": (0.4, 0.12, 0.87), "right_eye": (-0.4, 0.12, 0.87),
    "left_ear": (0.9, 0.0, -0.1), "right_ear": (-0.9, 0.0, -0.1),
}  # fmt: skip
"""Places on the unit ball that the head is; people look along z, so that their left is at positive x."""

_SKIN = 0.035  # units that a point of the face may lie below hair
_DEPTH = 1.5  # radii of its joint that a joint may lie below the body's surface


class _Place(NamedTuple):
    """Where a keypoint is in the person's coordinates; it is seen under any of ``parts``, or ``cover`` of anything."""

    point: Floats
    cover: float
    parts: tuple[int, ...] = ()


def keypoints(
    solids: Sequence[Solid], pose: Pose, layer: Layer, own: NDArray[np.bool_], step: int
) -> NDArray[np.int32]:
    """Keypoints [17, 3] of the person built of ``solids`` and rendered as ``layer``: x, y, visibility.

    ``own``: bool [F, F], the pixels of the canvas that show the person; x and y index the image that every
    ``step``-th pixel of the canvas makes. Visibility: 2 if the person's surface is seen there, 1 if it is hidden by
    another object or by the person itself, 0 outside the image, where x and y are 0 too.
    """
    found = np.zeros((len(KEYPOINTS), 3), np.int32)
    for index, name in enumerate(KEYPOINTS):
        place = _place(solids, name)
        x, y, z = pose.scale * pose.rotation @ place.point + layer.origin
        column, row = math.floor(x / step), math.floor(-y / step)
        at = (row * step, column * step)
        if min(at) >= 0 and max(at) < own.shape[0]:
            seen = own[at] and _uncovered(layer, at, place, float(z), pose.scale)
            found[index] = column, row, 2 if seen else 1
    return found


def _uncovered(layer: Layer, at: tuple[int, int], place: _Place, z: float, scale: float) -> bool:
    """Whether the person's surface at a pixel of the canvas is that of the place and not of what is before it."""
    inside = (at[0] - layer.window[0].start, at[1] - layer.window[1].start)
    return int(layer.parts[inside]) in place.parts or bool(layer.depth[inside] - z <= scale * place.cover)


def _place(solids: Sequence[Solid], name: str) -> _Place:
    if name in _FACE:
        head = _balls(solids, "head")[0]
        return _Place(head.centre + head.rotation @ (head.radii * np.array(_FACE[name], np.float32)), _SKIN)
    side, joint = name.split("_")
    limb, end, following = _JOINTS[joint]
    ball = _balls(solids, side[0] + limb)[end]
    parts = (part_number(side[0] + limb), part_number(side[0] + following))
    return _Place(ball.centre, _DEPTH * float(ball.radii[0]), parts)


def _balls(solids: Sequence[Solid], part: str) -> list[Solid]:
    return [solid for solid in solids if solid.shape == "ball" and solid.part == part_number(part)]
