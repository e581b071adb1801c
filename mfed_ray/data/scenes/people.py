"""Articulated people, about 1 unit tall, each solid marked with its PASCAL-Part name."""

from dataclasses import dataclass

import numpy as np

from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.palette import fabric, shade, solid_colour, textured, tint
from mfed_ray.data.scenes.solids import Solid, ball, limb, turn
from mfed_ray.data.scenes.textures import Colour, Material

PART_NAMES = (
    "head", "hair", "neck", "torso", "luarm", "llarm", "lhand", "ruarm", "rlarm", "rhand",
    "luleg", "llleg", "lfoot", "ruleg", "rlleg", "rfoot",
)  # fmt: skip
"""The names that occur, in the vocabulary of PASCAL-Part; a solid's ``part`` is 1 + the index here."""

_SKINS: tuple[Colour, ...] = ((0.78, 0.53, 0.4), (0.68, 0.43, 0.3), (0.48, 0.28, 0.17), (0.26, 0.14, 0.08))


@dataclass(frozen=True)
class _Clothes:
    skin: Material
    shirt: Material
    sleeve: Material
    trousers: Material
    shin: Material
    shoe: Material
    hair: Material


def person(rng: np.random.Generator) -> list[Solid]:
    """Standing, walking, reaching or sitting, joints at random angles."""
    clothes, build = _dress(rng), float(rng.uniform(0.85, 1.2))
    lean = turn(x=float(rng.uniform(-0.15, 0.3)), z=float(rng.uniform(-0.15, 0.15)))
    hip = np.array((0, 0.48, 0), np.float32)
    sitting = rng.random() < 0.15
    solids = [*_trunk(rng, clothes, hip, lean, build)]
    for side in (-1, 1):
        solids += _arm(rng, clothes, hip, lean, build, side)
        solids += _leg(rng, clothes, hip, build, side, sitting)
    return solids


def part_number(name: str) -> int:
    """What marks the solids of the part."""
    return PART_NAMES.index(name) + 1


def _dress(rng: np.random.Generator) -> _Clothes:
    colour = _SKINS[int(rng.integers(len(_SKINS)))]
    skin = textured(rng, "plain", colour, shade(colour, 0.85), (1, 2), 0.1)
    shirt = fabric(rng, ("plain", "plain", "stripes", "checks", "patches"))
    trousers = fabric(rng, ("plain", "plain", "plain", "checks"))
    hair = solid_colour(tint(rng, (0.04, 0.1), (0.2, 0.7), (0.02, 0.4)))
    sleeve, shin = skin if rng.random() < 0.55 else shirt, skin if rng.random() < 0.35 else trousers
    return _Clothes(skin, shirt, sleeve, trousers, shin, solid_colour(tint(rng, (0, 1), (0, 0.5), (0.03, 0.5))), hair)


def _trunk(rng: np.random.Generator, clothes: _Clothes, hip: Floats, lean: Floats, build: float) -> list[Solid]:
    def at(x: float, y: float, z: float) -> Floats:
        placed: Floats = hip + lean @ np.array((x, y, z), np.float32)
        return placed

    torso, head = part_number("torso"), part_number("head")
    nod = lean @ turn(x=float(rng.uniform(-0.25, 0.35)), y=float(rng.uniform(-0.7, 0.7)))
    hair = ball(at(0, 0.435, -0.018), (0.074, 0.082, 0.074), clothes.hair, nod, part_number("hair"))
    solids = [
        ball(at(0, 0.02, 0), (0.1 * build, 0.09, 0.075 * build), clothes.trousers, lean, torso),
        ball(at(0, 0.14, 0), (0.105 * build, 0.17, 0.075 * build), clothes.shirt, lean, torso),
        ball(at(0, 0.22, 0), (0.13 * build, 0.1, 0.078 * build), clothes.shirt, lean, torso),
        *limb(at(0, 0.28, 0), at(0, 0.36, 0), (0.036, 0.034), clothes.skin, part_number("neck")),
        ball(at(0, 0.42, 0.006), (0.066, 0.085, 0.072), clothes.skin, nod, head),
        hair,
    ]
    if rng.random() < 0.35:
        solids.append(ball(at(0, 0.36, -0.05), (0.07, 0.12, 0.04), clothes.hair, nod, part_number("hair")))
    return solids


def _arm(
    rng: np.random.Generator, clothes: _Clothes, hip: Floats, lean: Floats, build: float, side: int
) -> list[Solid]:
    name = "l" if side > 0 else "r"
    shoulder = hip + lean @ np.array((side * 0.135 * build, 0.27, 0), np.float32)
    spread = float(rng.uniform(0.05, 0.6) if rng.random() < 0.75 else rng.uniform(0.8, 2.7))
    swing, bend = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0.1, 1.6))
    upper = lean @ turn(x=-swing, z=side * spread) @ np.array((0, -0.165, 0), np.float32)
    lower = lean @ turn(x=-swing - bend, z=side * spread * 0.8) @ np.array((0, -0.15, 0), np.float32)
    elbow, wrist = shoulder + upper, shoulder + upper + lower
    hand = wrist + 0.25 * lower
    return [
        *limb(shoulder, elbow, (0.043 * build, 0.036 * build), clothes.shirt, part_number(f"{name}uarm")),
        *limb(elbow, wrist, (0.035 * build, 0.026), clothes.sleeve, part_number(f"{name}larm")),
        ball(hand, (0.03, 0.038, 0.028), clothes.skin, part=part_number(f"{name}hand")),
    ]


def _leg(
    rng: np.random.Generator, clothes: _Clothes, hip: Floats, build: float, side: int, sitting: bool
) -> list[Solid]:
    name = "l" if side > 0 else "r"
    swing = float(rng.uniform(1.2, 1.5) if sitting else rng.uniform(-0.5, 0.6))
    bend = float(rng.uniform(1.1, 1.6) if sitting else rng.uniform(0.0, 0.7))
    spread = side * float(rng.uniform(0.02, 0.25))
    joint = hip + np.array((side * 0.058 * build, -0.01, 0), np.float32)
    knee = joint + turn(x=-swing, z=spread) @ np.array((0, -0.23, 0), np.float32)
    ankle = knee + turn(x=bend - swing, z=spread) @ np.array((0, -0.21, 0), np.float32)
    toes = ankle + np.array((side * 0.012, -0.012, 0.04), np.float32)
    return [
        *limb(joint, knee, (0.064 * build, 0.048 * build), clothes.trousers, part_number(f"{name}uleg")),
        *limb(knee, ankle, (0.046 * build, 0.033), clothes.shin, part_number(f"{name}lleg")),
        ball(toes, (0.036, 0.028, 0.068), clothes.shoe, part=part_number(f"{name}foot")),
    ]
