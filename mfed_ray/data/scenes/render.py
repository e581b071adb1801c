"""An object's solids as seen by the camera: mask, normals, surface colours, parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.solids import Solid, extent, intersect
from mfed_ray.data.scenes.textures import albedo


@dataclass(frozen=True)
class Pose:
    """Where an object stands: pixel column and row of its foot, pixels per unit, rotation [3, 3]."""

    column: float
    row: float
    scale: float
    rotation: Floats


@dataclass(frozen=True)
class Layer:
    """An object on a canvas. ``window``: the rows and columns that the arrays cover.

    ``mask``: bool [h, w]; ``normals`` (x right, y up, z towards the viewer) and ``albedo``: float32 [h, w, 3];
    ``gloss``: float32 [h, w]; ``parts``: uint8 [h, w]; ``depth``: float32 [h, w], z of the surface in pixels.
    ``origin``: float32 [3], where the origin of the object's coordinates lies on the canvas, in pixels, y up.
    """

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]
    normals: Floats
    albedo: Floats
    gloss: Floats
    parts: NDArray[np.uint8]
    depth: Floats
    origin: Floats


class _Surface(NamedTuple):
    """What is seen in a window: number of the solid (-1: none) and depth (-inf: none) [h, w], normal, point [3, h, w].

    The point is in object coordinates.
    """

    solid: NDArray[np.int16]
    depth: Floats
    normals: Floats
    points: Floats


def render(solids: Sequence[Solid], pose: Pose, size: int) -> Layer | None:
    """The solids on a square canvas of ``size`` pixels, or None where they lie outside it altogether.

    The lowest point of the solids is the foot that stands at the pose's column and row.
    """
    placed = [_to_canvas(solid, pose) for solid in solids]
    reach = np.stack([extent(solid.shape, matrix) for solid, (matrix, _) in zip(solids, placed, strict=True)])
    centres = np.stack([centre for _, centre in placed])
    foot = (centres - reach)[:, 1].min()
    origin = np.array([pose.column, -pose.row - foot, 0], np.float32)
    centres += origin
    low, high = (centres - reach).min(axis=0), (centres + reach).max(axis=0)
    rows, columns = _span(-high[1], -low[1], size), _span(low[0], high[0], size)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    surface = _trace(solids, [matrix for matrix, _ in placed], centres, reach, rows, columns)
    return _coloured(solids, (rows, columns), surface, origin)


def _to_canvas(solid: Solid, pose: Pose) -> tuple[Floats, Floats]:
    """Matrix from unit coordinates to pixels, y up, and the centre."""
    matrix = pose.scale * pose.rotation @ (solid.rotation * solid.radii)
    return matrix.astype(np.float32), (pose.scale * pose.rotation @ solid.centre).astype(np.float32)


def _span(low: float, high: float, size: int) -> slice:
    return slice(max(int(np.floor(low)), 0), min(int(np.ceil(high)) + 1, size))


def _trace(
    solids: Sequence[Solid], matrices: Sequence[Floats], centres: Floats, reach: Floats, rows: slice, columns: slice
) -> _Surface:
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    nearest = np.full(shape, -np.inf, np.float32)
    index = np.full(shape, -1, np.int16)
    normals, points = np.zeros((2, 3, nearest.size), np.float32)
    for number, (solid, matrix) in enumerate(zip(solids, matrices, strict=True)):
        (x, y, z), (width, height, _) = centres[number], reach[number]
        r = _span(-y - height - rows.start, -y + height - rows.start, shape[0])
        c = _span(x - width - columns.start, x + width - columns.start, shape[1])
        if r.start >= r.stop or c.start >= c.stop:
            continue
        inverse = np.linalg.inv(matrix)
        across = np.arange(c.start, c.stop, dtype=np.float32) + np.float32(columns.start + 0.5) - x
        upward = -(np.arange(r.start, r.stop, dtype=np.float32) + np.float32(rows.start + 0.5)) - y
        origin = inverse[:, 0, None, None] * across + inverse[:, 1, None, None] * upward[:, None]
        depth, point, normal = intersect(solid, origin.reshape(3, -1), inverse[:, 2])
        depth = depth.reshape(upward.size, across.size) + z
        chosen = np.flatnonzero(depth > nearest[r, c])
        at = (r.start + chosen // across.size) * shape[1] + c.start + chosen % across.size
        nearest.ravel()[at] = depth.ravel()[chosen]
        index.ravel()[at] = number
        normals[:, at] = inverse.T @ normal[:, chosen]
        points[:, at] = (solid.rotation * solid.radii) @ point[:, chosen] + solid.centre[:, None]
    normals /= np.maximum(np.sqrt((normals**2).sum(axis=0)), np.float32(1e-9))
    return _Surface(index, nearest, normals.reshape(3, *shape), points.reshape(3, *shape))


def _coloured(solids: Sequence[Solid], window: tuple[slice, slice], surface: _Surface, origin: Floats) -> Layer:
    index, mask = surface.solid, surface.solid >= 0
    colours = np.zeros((*mask.shape, 3), np.float32)
    materials = list(dict.fromkeys(solid.material for solid in solids))
    material = np.array([materials.index(solid.material) for solid in solids] + [-1], np.int16)[index]
    for number, one in enumerate(materials):
        where = material == number
        x, y, z = surface.points[:, where]
        colours[where] = albedo(one, x + np.float32(0.6) * z, y + np.float32(0.45) * z)
    gloss = np.array([solid.material.gloss for solid in solids] + [0], np.float32)[index]
    parts = np.array([solid.part for solid in solids] + [0], np.uint8)[index]
    return Layer(window, mask, np.moveaxis(surface.normals, 0, 2), colours, gloss, parts, surface.depth, origin)
