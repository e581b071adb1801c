"""Bottle, chair, dining table, potted plant, sofa, television, and things of no class that only distract."""

import numpy as np

from mfed_ray.data.scenes.palette import fabric, paint, shade, solid_colour, textured, tint, wood
from mfed_ray.data.scenes.solids import Solid, ball, box, cone, limb, turn

_BLACK = solid_colour((0.03, 0.03, 0.035), gloss=0.5)


def bottle(rng: np.random.Generator) -> list[Solid]:
    """Glass or plastic, with a neck, a cap and a label."""
    colour = tint(rng, (0.1, 0.6), (0.3, 0.85), (0.12, 0.5))
    glass = textured(rng, "plain", colour, shade(colour, 0.7), (2, 3), 1.3)
    width, shoulder = float(rng.uniform(0.12, 0.17)), float(rng.uniform(0.5, 0.62))
    return [
        cone((0, shoulder / 2, 0), (width, shoulder / 2, width), glass),
        ball((0, shoulder, 0), (width, width * 0.9, width), glass),
        cone((0, shoulder + 0.2, 0), (width * 0.5, 0.16, width * 0.5), glass, 0.75),
        cone((0, shoulder + 0.38, 0), (width * 0.42, 0.035, width * 0.42), paint(rng)),
        cone((0, shoulder * 0.5, 0), (width * 1.03, shoulder * 0.24, width * 1.03), fabric(rng, ("stripes", "plain"))),
    ]


def chair(rng: np.random.Generator) -> list[Solid]:
    """Seat on four legs with a back, closed or slatted."""
    frame, seat = wood(rng), wood(rng) if rng.random() < 0.5 else fabric(rng)
    height, back = float(rng.uniform(0.42, 0.5)), float(rng.uniform(0.42, 0.55))
    solids = [box((0, height, 0), (0.25, 0.035, 0.24), seat)]
    for x in (-0.21, 0.21):
        for z in (-0.2, 0.2):
            solids += limb((x, height, z), (x * 1.08, 0.02, z * 1.08), (0.03, 0.024), frame)
        solids += limb((x, height, -0.21), (x, height + back, -0.27), (0.028, 0.024), frame)
    if rng.random() < 0.5:
        solids.append(box((0, height + 0.65 * back, -0.25), (0.2, back * 0.32, 0.022), seat, turn(x=-0.12)))
    else:
        for share in (0.35, 0.65, 0.95):
            solids.append(box((0, height + share * back, -0.21 - 0.06 * share), (0.21, 0.035, 0.018), frame))
    return solids


def dining_table(rng: np.random.Generator) -> list[Solid]:
    """Round top on a pillar, or a rectangular one on four legs; at times with a cloth, plates and cups."""
    leg, top = wood(rng), fabric(rng) if rng.random() < 0.35 else wood(rng)
    height = float(rng.uniform(0.4, 0.5))
    if rng.random() < 0.35:
        solids = [
            cone((0, height, 0), (0.5, 0.03, 0.5), top),
            cone((0, height / 2, 0), (0.09, height / 2, 0.09), leg, 0.7),
            cone((0, 0.03, 0), (0.26, 0.03, 0.26), leg, 0.6),
        ]
    else:
        depth = float(rng.uniform(0.3, 0.42))
        solids = [box((0, height, 0), (0.6, 0.032, depth), top)]
        for x in (-0.53, 0.53):
            for z in (-depth * 0.86, depth * 0.86):
                solids.append(box((x, height / 2, z), (0.035, height / 2, 0.035), leg))
    for _ in range(int(rng.integers(0, 4))):
        x, z = float(rng.uniform(-0.35, 0.35)), float(rng.uniform(-0.2, 0.2))
        solids.append(cone((x, height + 0.045, z), (0.06, 0.013, 0.06), solid_colour((0.8, 0.8, 0.78), 0.5), 1.4))
    return solids


def potted_plant(rng: np.random.Generator) -> list[Solid]:
    """Pot with a bush of leaves."""
    clay = textured(rng, "plain", tint(rng, (0.02, 0.08), (0.3, 0.7), (0.3, 0.7)), (0.4, 0.3, 0.25), (2, 3))
    green = tint(rng, (0.22, 0.38), (0.5, 0.85), (0.2, 0.5))
    leaf = textured(rng, "foliage", green, shade(green, 0.4), (5, 9), 0.15)
    solids = [
        cone((0, 0.15, 0), (0.15, 0.15, 0.15), clay, 1.35),
        cone((0, 0.3, 0), (0.215, 0.025, 0.215), clay),
        *limb((0, 0.3, 0), (0, 0.55, 0), (0.03, 0.02), solid_colour((0.2, 0.14, 0.07))),
    ]
    slender = rng.random() < 0.5
    for _ in range(int(rng.integers(9, 16))):
        around, out, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.3), rng.uniform(0.42, 0.95)
        size = (0.2, 0.035, 0.06) if slender else (0.12, 0.09, 0.12)
        at = (float(out * np.cos(around)), float(up), float(out * np.sin(around)))
        solids.append(ball(at, size, leaf, turn(y=-float(around), z=float(rng.uniform(-0.4, 1.1)))))
    return solids


def sofa(rng: np.random.Generator) -> list[Solid]:
    """Wide, upholstered, with arms and cushions."""
    cover, cushion = fabric(rng, ("plain", "plain", "checks", "stripes")), fabric(rng)
    width = float(rng.uniform(0.5, 0.75))
    solids = [
        box((0, 0.15, 0), (width, 0.11, 0.28), cover),
        box((0, 0.4, -0.23), (width, 0.2, 0.08), cover, turn(x=-0.15)),
        *(box((x * width, 0.24, 0.02), (0.09, 0.18, 0.28), cover) for x in (-1, 1)),
        *(ball((x * width, 0.42, 0.02), (0.1, 0.06, 0.28), cover) for x in (-1, 1)),
        *(box((x * width * 0.45, 0.29, 0.03), (width * 0.42, 0.055, 0.23), cover) for x in (-1, 1)),
    ]
    for _ in range(int(rng.integers(0, 3))):
        at = (float(rng.uniform(-0.7, 0.7)) * width, 0.43, -0.06)
        solids.append(ball(at, (0.13, 0.12, 0.06), cushion, turn(x=-0.3, z=float(rng.uniform(-0.5, 0.5)))))
    return solids


def television(rng: np.random.Generator) -> list[Solid]:
    """Screen, lit or dark, in a thin frame on a stand."""
    width, height = float(rng.uniform(0.4, 0.5)), float(rng.uniform(0.24, 0.32))
    glow = tint(rng, (0.0, 1.0), (0.2, 0.8), (0.3, 0.9))
    lit = textured(rng, "patches", glow, tint(rng, (0.0, 1.0), (0.2, 0.9), (0.2, 0.9)), (6, 12), 0.3)
    screen = lit if rng.random() < 0.6 else solid_colour((0.04, 0.045, 0.06), gloss=1.0)
    return [
        box((0, 0.12 + height, 0), (width, height, 0.04), _BLACK),
        box((0, 0.12 + height, 0.037), (width * 0.93, height * 0.9, 0.008), screen),
        box((0, 0.07, 0), (0.04, 0.06, 0.03), _BLACK),
        cone((0, 0.015, 0), (0.2, 0.015, 0.12), _BLACK),
    ]


def carton(rng: np.random.Generator) -> list[Solid]:
    """A box: no class."""
    half = rng.uniform(0.2, 0.45, 3)
    return [box((0, float(half[1]), 0), half.tolist(), fabric(rng))]


def toy_ball(rng: np.random.Generator) -> list[Solid]:
    """A ball: no class."""
    return [ball((0, 0.3, 0), (0.3, 0.3, 0.3), fabric(rng, ("stripes", "checks", "spots")))]


def traffic_cone(rng: np.random.Generator) -> list[Solid]:
    """A cone with bands: no class."""
    bands = textured(rng, "stripes", (0.85, 0.25, 0.04), (0.85, 0.85, 0.85), (1.5, 2.5))
    return [cone((0, 0.5, 0), (0.26, 0.48, 0.26), bands, 0.12), box((0, 0.02, 0), (0.32, 0.02, 0.32), bands)]


def bucket(rng: np.random.Generator) -> list[Solid]:
    """A bucket: no class."""
    return [cone((0, 0.35, 0), (0.25, 0.35, 0.25), paint(rng, 0.3), 1.3)]


def tree(rng: np.random.Generator) -> list[Solid]:
    """Trunk and crown: no class; greens shared with the potted plant."""
    green = tint(rng, (0.2, 0.36), (0.4, 0.8), (0.15, 0.45))
    crown = textured(rng, "foliage", green, shade(green, 0.35), (5, 9))
    solids = limb((0, 0, 0), (0, 0.7, 0), (0.07, 0.05), solid_colour((0.22, 0.15, 0.1)))
    for _ in range(int(rng.integers(4, 8))):
        x, y, z = rng.uniform((-0.3, 0.65, -0.3), (0.3, 1.25, 0.3))
        solids.append(ball((x, y, z), rng.uniform(0.2, 0.36, 3).tolist(), crown))
    return solids
