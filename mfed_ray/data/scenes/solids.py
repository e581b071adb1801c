"""Solids that objects are built of, and their exact intersection with parallel viewing rays.

Coordinates of an object: x right, y up, z towards the viewer before the object is turned. A solid is a unit shape
(within [-1, 1] on each axis) scaled by ``radii``, turned by ``rotation`` and moved to ``centre``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.textures import Material

Vector = Sequence[float] | Floats
Hit = tuple[Floats, Floats, Floats]
"""Depth along the ray (-inf: missed) [n], point [3, n] and outward normal [3, n], both of the unit shape."""

_FLAT = np.float32(1e-6)
_AXES: dict[str, tuple[list[int], list[int]]] = {
    "box": ([0, 1, 2], []), "ball": ([], [0, 1, 2]), "cone": ([1], [0, 2]), "ring": ([2], [0, 1]),
}  # fmt: skip
"""Per shape: axes along which it reaches its bounds independently (a box's corner), and axes of a circle or ball."""

IDENTITY: Floats = np.eye(3, dtype=np.float32)


@dataclass(frozen=True)
class Solid:
    """One textured solid. ``part``: 0, or 1 + index of a person's part; ``taper``: a cone's top over its base."""

    shape: Literal["ball", "box", "cone", "ring"]
    centre: Floats
    radii: Floats
    rotation: Floats
    material: Material
    taper: float = 1.0
    part: int = 0


def turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Floats:
    """Rotation matrix [3, 3]: about z, then x, then y, in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: Floats = (about_y @ about_x @ about_z).astype(np.float32)
    return rotation


def ball(centre: Vector, radii: Vector, material: Material, rotation: Floats = IDENTITY, part: int = 0) -> Solid:
    """Ellipsoid."""
    return Solid("ball", _vector(centre), _vector(radii), rotation, material, part=part)


def box(centre: Vector, radii: Vector, material: Material, rotation: Floats = IDENTITY) -> Solid:
    """Cuboid with half edges ``radii``."""
    return Solid("box", _vector(centre), _vector(radii), rotation, material)


def cone(
    centre: Vector, radii: Vector, material: Material, taper: float = 1.0, rotation: Floats = IDENTITY, part: int = 0
) -> Solid:
    """Upright elliptic cylinder whose top is ``taper`` times as wide as its base."""
    return Solid("cone", _vector(centre), _vector(radii), rotation, material, taper, part)


def ring(centre: Vector, radius: float, material: Material) -> Solid:
    """Thin upright ring around the z axis."""
    return Solid("ring", _vector(centre), _vector((radius, radius, radius / 8)), IDENTITY, material)


def limb(start: Vector, end: Vector, radii: tuple[float, float], material: Material, part: int = 0) -> list[Solid]:
    """Tapered rod from ``start`` (first radius) to ``end`` (second radius) with rounded ends."""
    begin, stop = _vector(start), _vector(end)
    x, y, z = (float(value) for value in stop - begin)
    length, flat = math.hypot(x, y, z), math.hypot(x, z)
    # turns the y axis onto the rod: the columns are a horizontal axis, the rod, and their cross product
    sx, sz = (z / flat, -x / flat) if flat > _FLAT else (1.0, 0.0)
    ux, uy, uz = x / length, y / length, z / length
    rotation = np.array([[sx, ux, -sz * uy], [0, uy, sz * ux - sx * uz], [sz, uz, sx * uy]], np.float32)
    first, second = radii
    rod = cone((begin + stop) / 2, (first, length / 2, first), material, second / first, rotation, part)
    return [rod, *(ball(at, (radius,) * 3, material, part=part) for at, radius in ((begin, first), (stop, second)))]


def extent(shape: str, matrix: Floats) -> Floats:
    """Half the size [3] of the bounding box of the unit shape mapped by ``matrix`` [3, 3]."""
    spread = np.abs(matrix)
    straight, circular = _AXES[shape]
    half: Floats = spread[:, straight].sum(axis=1) + np.sqrt((spread[:, circular] ** 2).sum(axis=1))
    return half


def intersect(solid: Solid, origin: Floats, direction: Floats) -> Hit:
    """The hit nearest to the viewer of the rays ``origin`` [3, n] + depth * ``direction`` [3], all in unit coordinates.

    The viewer is at infinite depth.
    """
    if solid.shape == "ball":
        return _ball(origin, direction)
    if solid.shape == "box":
        return _box(origin, direction)
    if solid.shape == "ring":
        return _ring(origin, direction)
    return _cone(origin, direction, np.float32(solid.taper))


def _ball(o: Floats, d: Floats) -> Hit:
    a, b, c = d @ d, d @ o, np.einsum("in,in->n", o, o) - 1
    root = b * b - a * c
    depth = np.where(root >= 0, (np.sqrt(np.maximum(root, 0)) - b) / a, -np.inf)
    point = o + d[:, None] * np.where(root >= 0, depth, 0)
    return depth, point, point


def _box(o: Floats, d: Floats) -> Hit:
    d = np.where(np.abs(d) < _FLAT, _FLAT, d).astype(np.float32)
    sign = np.sign(d)
    leave = (sign[:, None] - o) / d[:, None]
    enter = (-sign[:, None] - o) / d[:, None]
    face = leave.argmin(axis=0)
    depth = leave.min(axis=0)
    point = o + d[:, None] * depth
    normal = np.zeros_like(point)
    normal[face, np.arange(face.size)] = sign[face]
    return np.where(depth >= enter.max(axis=0), depth, -np.inf), point, normal


def _cone(o: Floats, d: Floats, taper: np.float32) -> Hit:
    mean, slope = (1 + taper) / 2, (taper - 1) / 2
    dy = d[1] if abs(d[1]) > _FLAT else _FLAT
    width = mean + slope * o[1]
    a = d[0] ** 2 + d[2] ** 2 - (slope * dy) ** 2
    a = a if abs(a) > _FLAT else _FLAT
    b = o[0] * d[0] + o[2] * d[2] - slope * dy * width
    root = b * b - a * (o[0] ** 2 + o[2] ** 2 - width**2)
    reach = np.sqrt(np.maximum(root, 0))
    best, kind = np.full(o.shape[1], -np.inf, np.float32), np.zeros(o.shape[1], np.float32)
    for depth in ((reach - b) / a, (-reach - b) / a):
        better = (root >= 0) & (np.abs(o[1] + depth * dy) <= 1) & (depth > best)
        best = np.where(better, depth, best)
    for cap, radius in ((np.float32(1), taper), (np.float32(-1), np.float32(1))):
        depth = (cap - o[1]) / dy
        inside = (o[0] + depth * d[0]) ** 2 + (o[2] + depth * d[2]) ** 2 <= radius**2
        better = inside & (depth > best)
        best, kind = np.where(better, depth, best), np.where(better, cap, kind)
    point = o + d[:, None] * np.where(np.isfinite(best), best, 0)
    side = np.stack([point[0], -slope * (mean + slope * point[1]), point[2]])
    flat = np.stack([np.zeros_like(kind), kind, np.zeros_like(kind)])
    return best, point, np.where(kind == 0, side, flat)


def _ring(o: Floats, d: Floats) -> Hit:
    depth = -o[2] / (d[2] if abs(d[2]) > _FLAT else _FLAT)
    point = o + d[:, None] * depth
    radius = np.hypot(point[0], point[1])
    bulge = (radius - 0.89) / 0.11
    around = np.maximum(radius, _FLAT)
    tube = np.sqrt(np.maximum(1 - bulge**2, 0)) * np.sign(d[2])
    normal = np.stack([point[0] / around * bulge, point[1] / around * bulge, tube])
    return np.where(np.abs(bulge) <= 1, depth, -np.inf).astype(np.float32), point, normal


def _vector(values: Vector) -> Floats:
    return np.asarray(values, np.float32)
