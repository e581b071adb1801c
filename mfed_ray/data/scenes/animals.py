"""Birds and the five four-legged classes, which share one body plan and differ in its proportions and coat."""

from dataclasses import dataclass

import numpy as np

from mfed_ray.data.scenes.palette import Range, shade, solid_colour, textured, tint
from mfed_ray.data.scenes.solids import Solid, ball, cone, limb, turn
from mfed_ray.data.scenes.textures import Material, Pattern


@dataclass(frozen=True)
class _Plan:
    """Proportions in units of the body's length; ranges are drawn per animal."""

    girth: Range
    leg: Range
    neck: Range
    head: float
    snout: float
    ears: float
    tail: Range
    patterns: tuple[Pattern, ...]
    hue: Range = (0.05, 0.1)
    saturation: Range = (0.2, 0.6)
    value: Range = (0.08, 0.6)
    horns: bool = False


_CAT = _Plan((0.17, 0.22), (0.26, 0.34), (0.06, 0.12), 0.17, 0.05, 0.09, (0.5, 0.7), ("stripes", "plain", "patches"))
_COW = _Plan((0.22, 0.27), (0.34, 0.42), (0.12, 0.2), 0.13, 0.17, 0.05, (0.3, 0.4), ("patches", "plain"), horns=True)
_DOG = _Plan(
    (0.16, 0.22), (0.32, 0.46), (0.14, 0.22), 0.14, 0.13, 0.07, (0.25, 0.45), ("plain", "patches"), value=(0.05, 0.8)
)
_HORSE = _Plan(
    (0.18, 0.22), (0.56, 0.68), (0.36, 0.46), 0.11, 0.22, 0.05, (0.4, 0.5), ("plain",), value=(0.1, 0.45),
    saturation=(0.4, 0.75),
)  # fmt: skip
_SHEEP = _Plan(
    (0.26, 0.32), (0.24, 0.3), (0.08, 0.14), 0.12, 0.1, 0.05, (0.06, 0.1), ("wool",), saturation=(0.05, 0.2),
    value=(0.6, 0.9),
)  # fmt: skip


def cat(rng: np.random.Generator) -> list[Solid]:
    """Short-legged, round head, long tail."""
    return _four_legged(rng, _CAT)


def cow(rng: np.random.Generator) -> list[Solid]:
    """Heavy body, horns, mostly patched."""
    return _four_legged(rng, _COW)


def dog(rng: np.random.Generator) -> list[Solid]:
    """Between cat and cow in every proportion, coats of all kinds."""
    return _four_legged(rng, _DOG)


def horse(rng: np.random.Generator) -> list[Solid]:
    """Long legs, long raised neck, mane."""
    return _four_legged(rng, _HORSE)


def sheep(rng: np.random.Generator) -> list[Solid]:
    """Woolly barrel on short legs, often with a dark face."""
    return _four_legged(rng, _SHEEP)


def bird(rng: np.random.Generator) -> list[Solid]:
    """Egg-shaped body, beak, tail; wings spread or folded."""
    hue = float(rng.random())
    colour = tint(rng, (hue, hue), (0.1, 0.8), (0.1, 0.8))
    pattern: Pattern = "plain" if rng.random() < 0.6 else "spots"
    coat = textured(rng, pattern, colour, tint(rng, (hue, hue + 0.2), (0, 0.6), (0.1, 0.9)), (5, 9))
    wing, beak = solid_colour(shade(colour, 0.65)), solid_colour(tint(rng, (0.08, 0.14), (0.7, 0.9), (0.5, 0.9)))
    tilt = turn(z=float(rng.uniform(0.1, 0.6)))
    solids = [
        ball((0, 0.32, 0), (0.3, 0.18, 0.17), coat, tilt),
        ball((0.28, 0.52, 0), (0.13, 0.13, 0.12), coat),
        cone((0.44, 0.51, 0), (0.04, 0.09, 0.04), beak, 0.05, turn(z=-np.pi / 2)),
        ball((-0.38, 0.2, 0), (0.22, 0.05, 0.09), wing, tilt),
    ]
    if rng.random() < 0.4:
        lift = float(rng.uniform(0.2, 0.9))
        solids += [
            ball((-0.02, 0.42 + 0.2 * lift, side * 0.36), (0.15, 0.03, 0.36), wing, turn(x=-side * lift))
            for side in (-1, 1)
        ]
    else:
        solids += [ball((-0.06, 0.34, side * 0.14), (0.24, 0.12, 0.05), wing, tilt) for side in (-1, 1)]
        for side in (-0.06, 0.06):
            solids += limb((0.02, 0.2, side), (0.04, 0.0, side), (0.018, 0.014), beak)
    return solids


def _four_legged(rng: np.random.Generator, plan: _Plan) -> list[Solid]:
    girth, leg, neck, tail = (float(rng.uniform(*bounds)) for bounds in (plan.girth, plan.leg, plan.neck, plan.tail))
    coat = _coat(rng, plan)
    dark = solid_colour(shade(coat.first, 0.45))
    face = dark if rng.random() < 0.3 else coat
    height = leg + girth * 0.8
    solids = [
        ball((0, height, 0), (0.5, girth, girth * 0.9), coat),
        ball((0.3, height + 0.02, 0), (0.22, girth * 1.08, girth * 0.92), coat),
        ball((-0.32, height + 0.01, 0), (0.2, girth * 1.05, girth * 0.95), coat),
        *_legs(rng, leg, height, girth, coat, dark),
        *limb((-0.48, height + 0.08, 0), (-0.5 - 0.6 * tail, height + tail * float(rng.uniform(-0.7, 0.8)), 0.03),
              (0.035, 0.025), coat),
    ]  # fmt: skip
    rise = float(rng.uniform(-0.1, 0.9))
    crest = (0.42 + neck * np.cos(rise), height + girth * 0.4 + neck * np.sin(rise), 0.0)
    solids += limb((0.36, height + 0.04, 0), crest, (girth * 0.62, plan.head * 0.72), coat)
    return solids + _head(rng, plan, crest, face, dark)


def _coat(rng: np.random.Generator, plan: _Plan) -> Material:
    pattern = plan.patterns[int(rng.integers(len(plan.patterns)))]
    first = tint(rng, plan.hue, plan.saturation, plan.value)
    if pattern == "patches":
        return textured(rng, pattern, first, tint(rng, (0.08, 0.12), (0.02, 0.2), (0.6, 0.9)), (5, 8))
    if pattern == "plain":
        return textured(rng, "wool", first, shade(first, 0.7), (1, 3))
    return textured(rng, pattern, first, shade(first, 0.5), (5, 9))


def _legs(
    rng: np.random.Generator, leg: float, height: float, girth: float, coat: Material, dark: Material
) -> list[Solid]:
    solids: list[Solid] = []
    for x in (-0.36, 0.34):
        for z in (-0.55 * girth, 0.55 * girth):
            swing = float(rng.uniform(-0.12, 0.12))
            knee = (x + 0.5 * swing, leg * 0.5, z)
            solids += limb((x, height - 0.2 * girth, z), knee, (0.085, 0.05), coat)
            solids += limb(knee, (x + swing, 0.03, z), (0.05, 0.04), dark if rng.random() < 0.25 else coat)
    return solids


def _head(
    rng: np.random.Generator, plan: _Plan, crest: tuple[float, float, float], face: Material, dark: Material
) -> list[Solid]:
    x, y, _ = crest
    head, snout, ears = plan.head, plan.snout, plan.ears
    droop = float(rng.uniform(0.1, 0.8))
    muzzle = (x + head * 0.6 + snout * np.cos(droop), y - snout * np.sin(droop), 0.0)
    solids = [ball((x + head * 0.3, y + head * 0.2, 0), (head, head * 0.9, head * 0.85), face)]
    solids += limb((x + head * 0.5, y, 0), muzzle, (head * 0.62, head * 0.45), face)
    solids.append(ball(muzzle, (head * 0.3, head * 0.3, head * 0.4), dark))
    for side in (-1, 1):
        root = (x + head * 0.1, y + head * 0.8, side * head * 0.55)
        solids.append(cone((root[0], root[1] + ears * 0.6, root[2]), (ears * 0.5, ears, ears * 0.3), dark, 0.1))
        if plan.horns:
            tip = (root[0], root[1] + 0.16, root[2] * 2.2)
            solids += limb(root, tip, (0.03, 0.012), solid_colour((0.6, 0.55, 0.42)))
    return solids
