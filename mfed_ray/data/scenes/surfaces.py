"""Backgrounds: a ground plane under a camera that looks slightly down, and what rises behind it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.palette import fabric, shade, solid_colour, textured, tint, wood
from mfed_ray.data.scenes.textures import Material, albedo, noise

Setting = Literal["room", "street", "field", "water"]

BUILDING, FLOOR, GRASS, GROUND, MOUNTAIN, PICTURE, ROAD, RUG, SAND, SIDEWALK, SKY, TREE, WALL, WATER, WINDOW = (
    44, 158, 187, 189, 259, 287, 324, 330, 334, 354, 360, 420, 440, 445, 454,
)  # fmt: skip
"""Ids of PASCAL-Context's 459 labels."""


@dataclass(frozen=True)
class Backdrop:
    """Everything behind the objects. ``horizon``: row of the ground's vanishing line, pixels; may be negative.

    ``foot``: first row of the ground; ``pitch``: angle of the camera to the ground, radians; ``labels``: uint16 [S, S];
    ``normals``, ``albedo``: float32 [S, S, 3], the sky's normals are zero; ``ground``: bool [S, S].
    """

    setting: Setting
    horizon: float
    foot: int
    pitch: float
    labels: NDArray[np.uint16]
    normals: Floats
    albedo: Floats
    ground: NDArray[np.bool_]


class _Canvas:
    """Arrays to fill from back to front."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows, self.columns = (axis.astype(np.float32) + 0.5 for axis in np.mgrid[:size, :size])
        self.labels = np.zeros((size, size), np.uint16)
        self.normals = np.zeros((size, size, 3), np.float32)
        self.albedo = np.zeros((size, size, 3), np.float32)

    def fill(
        self, where: NDArray[np.bool_], label: int, normal: Floats, material: Material, u: Floats, v: Floats
    ) -> None:
        """Cover the pixels ``where``; ``normal`` is [3] or one per pixel [n, 3]."""
        at = np.flatnonzero(where)
        self.labels.ravel()[at] = label
        self.normals.reshape(-1, 3)[at] = normal
        self.albedo.reshape(-1, 3)[at] = albedo(material, u.ravel()[at], v.ravel()[at])


def backdrop(rng: np.random.Generator, setting: Setting, size: int) -> Backdrop:
    """A background of ``size`` x ``size`` pixels."""
    canvas = _Canvas(size)
    pitch = float(rng.uniform(0.25, 0.6) if setting == "room" else rng.uniform(0.12, 0.35))
    foot = round(size * float(rng.uniform(0.35, 0.7)))
    if setting == "room":
        horizon = foot - size * float(rng.uniform(0.2, 0.6))
        _walls(rng, canvas, foot)
    else:
        horizon = foot - size * 0.03
        _sky(rng, canvas)
        _skyline(rng, canvas, foot, setting)
    ground = _ground(rng, canvas, setting, foot, horizon, pitch)
    return Backdrop(setting, horizon, foot, pitch, canvas.labels, canvas.normals, canvas.albedo, ground)


def _unit(x: float, y: float, z: float) -> Floats:
    vector = np.array((x, y, z), np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def _walls(rng: np.random.Generator, canvas: _Canvas, foot: int) -> None:
    """One wall, or two that meet in a corner, with windows or pictures."""
    size, everywhere = canvas.size, np.ones((canvas.size, canvas.size), bool)
    paper = _wall_material(rng)
    u, v = canvas.columns / size, -canvas.rows / size
    yaw = float(rng.uniform(-0.5, 0.5))
    canvas.fill(everywhere, WALL, _unit(np.sin(yaw), 0, np.cos(yaw)), paper, u, v)
    if rng.random() < 0.5:
        corner = size * float(rng.uniform(0.15, 0.85))
        turned = yaw - np.sign(yaw or 1) * float(rng.uniform(0.8, 1.2))
        beyond = canvas.columns < corner if turned > yaw else canvas.columns > corner
        canvas.fill(beyond, WALL, _unit(np.sin(turned), 0, np.cos(turned)), paper, u * 1.6, v)
    for _ in range(int(rng.integers(0, 3))):
        left, top = rng.uniform(-0.05, 0.8) * size, rng.uniform(0.0, 0.25) * size
        wide, high = rng.uniform(0.12, 0.35) * size, rng.uniform(0.12, 0.3) * size
        inside = (
            (np.abs(canvas.columns - left - wide / 2) < wide / 2) & (canvas.rows > top) & (canvas.rows < top + high)
        )
        inside &= canvas.rows < foot - 0.06 * size
        if rng.random() < 0.5:
            sky = textured(rng, "panes", (0.85, 0.85, 0.82), tint(rng, (0.5, 0.6), (0.1, 0.5), (0.8, 1.0)), (8, 12))
            canvas.fill(inside, WINDOW, canvas.normals[inside], sky, u, v)
        else:
            canvas.fill(inside, PICTURE, canvas.normals[inside], fabric(rng, ("patches", "spots", "checks")), u, v)


def _wall_material(rng: np.random.Generator) -> Material:
    colour = tint(rng, (0.0, 1.0), (0.03, 0.4), (0.35, 0.85))
    kind = rng.random()
    if kind < 0.5:
        return textured(rng, "plain", colour, shade(colour, 0.85), (2, 3))
    if kind < 0.7:
        return textured(rng, "stripes", colour, shade(colour, 0.7), (5, 10))
    if kind < 0.85:
        brick = tint(rng, (0.0, 0.05), (0.4, 0.7), (0.3, 0.6))
        return textured(rng, "bricks", brick, (0.6, 0.56, 0.5), (8, 14))
    return textured(rng, "spots", colour, shade(colour, 0.6), (8, 14))


def _sky(rng: np.random.Generator, canvas: _Canvas) -> None:
    size, everywhere = canvas.size, np.ones((canvas.size, canvas.size), bool)
    blue = tint(rng, (0.53, 0.62), (0.05, 0.65), (0.6, 0.95))
    canvas.fill(everywhere, SKY, np.zeros(3, np.float32), solid_colour(blue), canvas.columns * 0, canvas.rows * 0)
    haze = (canvas.rows / size)[:, :, None] * np.float32(0.6)
    shift = float(rng.random())
    clouds = noise(canvas.columns / size * 0.5 + shift, canvas.rows / size * 1.1 + shift) * 0.7 + rng.uniform(-1.0, 0.3)
    white = np.clip(clouds, 0, 0.8)[:, :, None]
    canvas.albedo += (np.float32(0.9) - canvas.albedo) * np.maximum(haze, white)


def _skyline(rng: np.random.Generator, canvas: _Canvas, foot: int, setting: Setting) -> None:
    """Hills, then trees or houses in front of them."""
    size = canvas.size
    if rng.random() < 0.7:
        hue = float(rng.uniform(0.25, 0.6))
        stone = tint(rng, (hue, hue), (0.1, 0.35), (0.3, 0.6))
        _ridge(rng, canvas, foot, MOUNTAIN, textured(rng, "wool", stone, shade(stone, 0.7), (3, 6)), 0.25, 0.4)
    if setting == "street":
        left = float(rng.uniform(-0.2, 0.1))
        while left < 1:
            wide, high = float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.15, 0.6))
            _house(rng, canvas, (left * size, (left + wide) * size), foot - high * size)
            left += wide + float(rng.choice([0.0, 0.1]))
    elif rng.random() < 0.7:
        green = tint(rng, (0.2, 0.38), (0.3, 0.7), (0.15, 0.4))
        _ridge(rng, canvas, foot, TREE, textured(rng, "foliage", green, shade(green, 0.45), (8, 14)), 0.15, 1.6)


def _ridge(
    rng: np.random.Generator, canvas: _Canvas, foot: int, label: int, material: Material, height: float, rough: float
) -> None:
    """A band whose upper edge is noise: rounded hills with little ``rough``, treetops with much."""
    size, shift = canvas.size, np.float32(rng.random())
    x = canvas.columns / size
    top = foot - size * height * np.clip(
        0.55 + 0.35 * noise(x * np.float32(rough * 0.3) + shift, x * 0 + shift), 0.05, 2
    )
    where = canvas.rows > top
    slope = noise(x * 0.4 + shift, canvas.rows / size * 0.4)[where]
    normal = np.stack([0.5 * slope, np.full_like(slope, 0.45), np.full_like(slope, 0.8)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    canvas.fill(where, label, normal, material, x, canvas.rows / size)


def _house(rng: np.random.Generator, canvas: _Canvas, sides: tuple[float, float], top: float) -> None:
    wall = tint(rng, (0.0, 0.15), (0.05, 0.5), (0.3, 0.8))
    front = textured(rng, "panes", wall, tint(rng, (0.5, 0.65), (0.1, 0.4), (0.08, 0.3)), (9, 15))
    if rng.random() < 0.25:
        front = textured(rng, "bricks", wall, shade(wall, 1.4), (12, 18))
    where = (canvas.columns >= sides[0]) & (canvas.columns < sides[1]) & (canvas.rows > top)
    yaw = float(rng.uniform(-0.5, 0.5))
    canvas.fill(
        where,
        BUILDING,
        _unit(np.sin(yaw), 0, np.cos(yaw)),
        front,
        canvas.columns / canvas.size,
        canvas.rows / canvas.size,
    )


def _ground(
    rng: np.random.Generator, canvas: _Canvas, setting: Setting, foot: int, horizon: float, pitch: float
) -> NDArray[np.bool_]:
    """The ground plane from row ``foot`` down, its pattern in perspective."""
    size = canvas.size
    ground: NDArray[np.bool_] = canvas.rows > foot
    distance = size / np.maximum(canvas.rows - horizon, 1)
    turned = float(rng.uniform(-0.8, 0.8))
    across, along = (canvas.columns / size - 0.5) * distance, distance * np.float32(1 + 2 * pitch)
    u = across * np.float32(np.cos(turned)) - along * np.float32(np.sin(turned))
    v = across * np.float32(np.sin(turned)) + along * np.float32(np.cos(turned))
    label, material = _ground_material(rng, setting)
    canvas.fill(ground, label, _unit(0, np.cos(pitch), np.sin(pitch)), material, u, v)
    if setting == "water":
        ripple = 0.12 * noise(across * 0.3, along * 0.9)[ground]
        normal = canvas.normals[ground] + np.stack([ripple, 0 * ripple, ripple], axis=1)
        canvas.normals[ground] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    elif setting != "field" and rng.random() < 0.5:
        edge = rng.uniform(-0.4, 0.4) + rng.choice([-0.8, 0.8]) * (distance - distance.min())
        aside = ground & (
            (across > edge) if rng.random() < 0.5 else (np.hypot(across - edge, along - along.min() - 0.7) < 0.7)
        )
        strip = (RUG, fabric(rng)) if setting == "room" else (SIDEWALK, _paving(rng))
        canvas.fill(aside, strip[0], canvas.normals[aside], strip[1], u, v)
    return ground


def _paving(rng: np.random.Generator) -> Material:
    grey = tint(rng, (0.05, 0.15), (0.02, 0.15), (0.4, 0.7))
    return textured(rng, "checks", grey, shade(grey, 0.85), (2, 4))


def _ground_material(rng: np.random.Generator, setting: Setting) -> tuple[int, Material]:
    if setting == "room":
        colour = tint(rng, (0.0, 1.0), (0.02, 0.35), (0.25, 0.7))
        tiles = textured(rng, "checks", colour, shade(colour, 0.6), (1.5, 3))
        carpet = textured(rng, "wool", colour, shade(colour, 0.75), (3, 5))
        return FLOOR, (wood(rng), tiles, carpet)[int(rng.integers(3))]
    if setting == "street":
        grey = tint(rng, (0.05, 0.6), (0.0, 0.1), (0.2, 0.45))
        return ROAD, textured(rng, "wool", grey, shade(grey, 0.75), (4, 7))
    if setting == "water":
        blue = tint(rng, (0.45, 0.62), (0.2, 0.6), (0.25, 0.6))
        return WATER, textured(rng, "grain", blue, shade(blue, 1.35), (3, 6), 0.5)
    earth = rng.random()
    if earth < 0.65:
        green = tint(rng, (0.18, 0.32), (0.4, 0.75), (0.25, 0.55))
        return GRASS, textured(rng, "wool", green, shade(green, 0.6), (4, 7))
    label, hue = (SAND, 0.11) if earth < 0.85 else (GROUND, 0.07)
    soil = tint(rng, (hue, hue + 0.02), (0.25, 0.5), (0.4, 0.8))
    return label, textured(rng, "wool", soil, shade(soil, 0.75), (3, 6))
