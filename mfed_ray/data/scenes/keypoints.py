"""COCO's 17 keypoints of a person, from the solids that it is built of and from how it was rendered."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.people import part_number
from mfed_ray.data.scenes.render import Layer, Pose
from mfed_ray.data.scenes.solids import Solid

_JOINTS = {
    "shoulder": ("uarm", 0), "elbow": ("uarm", 1), "wrist": ("larm", 1),
    "hip": ("uleg", 0), "knee": ("uleg", 1), "ankle": ("lleg", 1),
}  # fmt: skip
"""The limb that a joint belongs to, and whether the limb starts or ends there."""

_FACE = {
    "nose": (0.0, -0.1, 0.97), "left_eye": (0.4, 0.12, 0.87), "right_eye": (-0.4, 0.12, 0.87),
    "left_ear": (0.9, 0.0, -0.1), "right_ear": (-0.9, 0.0, -0.1),
}  # fmt: skip
"""Places on the unit ball that the head is; people look along z, so that their left is at positive x."""

_SKIN = 0.035  # units that a point of the face may lie below hair
_DEPTH = 1.5  # radii of its joint that a joint may lie below the body's surface


def keypoints(solids: Sequence[Solid], pose: Pose, layer: Layer, own: NDArray[np.bool_], step: int) -> NDArray[np.int32]:
    """Keypoints [17, 3] of the person built of ``solids`` and rendered as ``layer``: x, y, visibility.

    ``own``: bool [F, F], the pixels of the canvas that show the person; x and y index the image that every
    ``step``-th pixel of the canvas makes. Visibility: 2 if the person's surface is seen there, 1 if it is hidden by
    another object or by the person itself, 0 outside the image, where x and y are 0 too.
    """
    points, covers = np.zeros((len(KEYPOINTS), 3), np.float32), np.zeros(len(KEYPOINTS), np.float32)
    for index, name in enumerate(KEYPOINTS):
        points[index], covers[index] = _place(solids, name)
    placed = pose.scale * points @ pose.rotation.T + layer.origin
    columns, rows = (np.floor(axis / step).astype(np.int32) for axis in (placed[:, 0], -placed[:, 1]))
    found = np.zeros((len(KEYPOINTS), 3), np.int32)
    for index, (column, row) in enumerate(zip(columns, rows, strict=True)):
        if 0 <= column * step < own.shape[1] and 0 <= row * step < own.shape[0]:
            seen = own[row * step, column * step]
            if seen:
                top, left = layer.window[0].start, layer.window[1].start
                surface = layer.depth[row * step - top, column * step - left]
                seen = surface - placed[index, 2] <= pose.scale * covers[index]
            found[index] = column, row, 2 if seen else 1
    return found


def _place(solids: Sequence[Solid], name: str) -> tuple[Floats, float]:
    """Where a keypoint is, in the coordinates of the person, and how far below the surface it is still seen."""
    if name in _FACE:
        head = _balls(solids, "head")[0]
        return head.centre + head.rotation @ (head.radii * np.array(_FACE[name], np.float32)), _SKIN
    side, joint = name.split("_")
    limb, end = _JOINTS[joint]
    ball = _balls(solids, side[0] + limb)[end]
    return ball.centre, _DEPTH * float(ball.radii[0])


def _balls(solids: Sequence[Solid], part: str) -> list[Solid]:
    return [solid for solid in solids if solid.shape == "ball" and solid.part == part_number(part)]
