"""Aeroplane, bicycle, boat, bus, car, motorbike, train; length 1 along x unless said otherwise."""

import numpy as np

from mfed_ray.data.scenes.palette import paint, solid_colour, textured, tint
from mfed_ray.data.scenes.solids import Solid, ball, box, cone, limb, ring, turn
from mfed_ray.data.scenes.textures import Material

_RUBBER = solid_colour((0.03, 0.03, 0.035))
_STEEL = solid_colour((0.45, 0.46, 0.5), gloss=0.8)
_GLASS = solid_colour((0.07, 0.1, 0.13), gloss=1.2)
_LAMP = solid_colour((0.95, 0.85, 0.55), gloss=0.5)


def aeroplane(rng: np.random.Generator) -> list[Solid]:
    """Slim fuselage, swept wings, tail fins, engines."""
    body = paint(rng) if rng.random() < 0.4 else solid_colour((0.75, 0.76, 0.8), gloss=0.5)
    trim = paint(rng)
    span = float(rng.uniform(0.35, 0.5))
    solids = [
        ball((0, 0.2, 0), (0.5, 0.075, 0.075), body),
        ball((0.4, 0.21, 0), (0.08, 0.05, 0.06), _GLASS),
        box((-0.42, 0.34, 0), (0.06, 0.11, 0.012), trim, turn(z=0.4)),
    ]
    for side in (-1, 1):
        sweep = turn(y=side * 0.35)
        solids.append(ball((-0.05, 0.17, side * span * 0.55), (0.09, 0.014, span * 0.6), body, sweep))
        solids.append(ball((-0.42, 0.23, side * 0.12), (0.05, 0.01, 0.14), trim, sweep))
        solids.append(cone((0.02, 0.13, side * span * 0.45), (0.035, 0.07, 0.035), trim, 0.8, turn(z=np.pi / 2)))
    return solids


def bicycle(rng: np.random.Generator) -> list[Solid]:
    """Two thin wheels and a frame of tubes."""
    frame, wheel = paint(rng), float(rng.uniform(0.21, 0.25))
    hub, front, seat, bars = (-0.27, wheel, 0), (0.28, wheel, 0), (-0.12, 0.48, 0), (0.2, 0.52, 0)
    crank = (-0.03, wheel * 0.9, 0)
    solids = [ring((x, wheel, 0), wheel, _RUBBER) for x in (hub[0], front[0])]
    for start, end in ((hub, seat), (hub, crank), (crank, seat), (crank, bars), (seat, bars), (bars, front)):
        solids += limb(start, end, (0.018, 0.018), frame)
    solids += limb((0.2, 0.56, -0.14), (0.2, 0.56, 0.14), (0.016, 0.016), _STEEL)
    solids += [ball((-0.14, 0.53, 0), (0.08, 0.025, 0.05), _RUBBER), ball(crank, (0.06, 0.06, 0.02), _STEEL)]
    return solids


def boat(rng: np.random.Generator) -> list[Solid]:
    """Hull with either a sail or a cabin."""
    hull, deck = paint(rng, 0.3), solid_colour(tint(rng, (0.06, 0.1), (0.3, 0.6), (0.3, 0.6)))
    solids = [
        cone((0, 0.1, 0), (0.36, 0.1, 0.1), hull, 1.35),
        box((0, 0.195, 0), (0.38, 0.012, 0.1), deck),
        cone((0.42, 0.13, 0), (0.06, 0.1, 0.05), hull, 0.2, turn(z=-1.0)),
    ]
    if rng.random() < 0.55:
        sail = textured(rng, "stripes", (0.8, 0.8, 0.76), tint(rng, (0, 1), (0.0, 0.7), (0.5, 0.9)), (1, 3))
        height = float(rng.uniform(0.35, 0.5))
        solids += limb((0, 0.2, 0), (0, 0.25 + 2 * height, 0), (0.014, 0.01), deck)
        solids.append(cone((-0.02, 0.25 + height, 0.01), (0.28, height, 0.02), sail, 0.03))
        return solids
    cabin = solid_colour((0.75, 0.75, 0.72))
    solids.append(box((-0.05, 0.29, 0), (0.18, 0.09, 0.08), cabin))
    solids.append(box((-0.05, 0.31, 0), (0.186, 0.035, 0.086), _GLASS))
    return [*solids, cone((-0.15, 0.43, 0), (0.03, 0.06, 0.03), hull)]


def bus(rng: np.random.Generator) -> list[Solid]:
    """Tall box with one long band of windows."""
    return _coach(rng, length=0.5, height=float(rng.uniform(0.19, 0.25)), wheels=(-0.3, 0.3))


def train(rng: np.random.Generator) -> list[Solid]:
    """Coaches in a row behind a sloped nose, longer and lower than a bus; length 2.4."""
    body = paint(rng, 0.4)
    solids = [cone((1.22, 0.19, 0), (0.14, 0.12, 0.12), body, 0.5, turn(z=-np.pi / 2))]
    for x in (-0.8, 0.2):
        solids += [
            box((x + 0.42, 0.22, 0), (0.48, 0.16, 0.14), body),
            box((x + 0.42, 0.27, 0), (0.46, 0.05, 0.145), _windows(rng)),
            box((x + 0.42, 0.14, 0), (0.482, 0.02, 0.146), paint(rng)),
            box((x + 0.42, 0.05, 0), (0.4, 0.045, 0.1), _RUBBER),
        ]
    return [*solids, ball((1.3, 0.2, 0.05), (0.04, 0.03, 0.03), _LAMP), box((0, 0.01, 0), (1.4, 0.01, 0.16), _STEEL)]


def car(rng: np.random.Generator) -> list[Solid]:
    """Low body, glazed cabin, four wheels."""
    body = paint(rng)
    low, roof = float(rng.uniform(0.09, 0.12)), float(rng.uniform(0.08, 0.13))
    back = float(rng.uniform(-0.14, -0.02))
    return [
        box((0, 0.1 + low / 2, 0), (0.47, low, 0.19), body),
        ball((0.3, 0.13 + low, 0), (0.19, 0.07, 0.185), body),
        cone((back, 0.1 + 1.5 * low + roof, 0), (0.32, roof, 0.23), _GLASS, 0.66),
        cone((back, 0.11 + 1.5 * low + 2 * roof, 0), (0.215, 0.015, 0.155), body, 0.9),
        *_wheels((-0.29, 0.29), 0.095, 0.17),
        *(ball((0.46, 0.13 + low / 2, z), (0.03, 0.025, 0.04), _LAMP) for z in (-0.13, 0.13)),
        box((0, 0.09, 0), (0.485, 0.02, 0.195), _RUBBER),
    ]


def motorbike(rng: np.random.Generator) -> list[Solid]:
    """Two fat wheels, tank, engine, saddle."""
    tank = paint(rng, 0.9)
    wheel = float(rng.uniform(0.17, 0.2))
    return [
        *_wheels((-0.32, 0.34), wheel, 0.0),
        ball((0.08, 0.42, 0), (0.17, 0.09, 0.09), tank),
        ball((-0.2, 0.42, 0), (0.2, 0.05, 0.08), _RUBBER),
        ball((-0.36, 0.44, 0), (0.1, 0.05, 0.06), tank),
        box((0.0, 0.24, 0), (0.14, 0.1, 0.08), _STEEL),
        *limb((0.34, wheel, 0), (0.2, 0.54, 0), (0.03, 0.025), _STEEL),
        *limb((0.2, 0.56, -0.17), (0.2, 0.56, 0.17), (0.02, 0.02), _RUBBER),
        *limb((-0.05, 0.18, 0.09), (-0.45, 0.2, 0.1), (0.03, 0.04), _STEEL),
        ball((0.28, 0.46, 0), (0.05, 0.06, 0.06), _LAMP),
    ]


def _coach(rng: np.random.Generator, length: float, height: float, wheels: tuple[float, ...]) -> list[Solid]:
    body, stripe = paint(rng, 0.4), paint(rng, 0.4)
    middle = 0.09 + height
    return [
        box((0, middle, 0), (length, height, 0.17), body),
        box((0, middle + 0.3 * height, 0), (length * 0.96, height * 0.38, 0.175), _windows(rng)),
        box((length, middle + 0.2 * height, 0), (0.008, height * 0.5, 0.14), _GLASS),
        box((0, middle - 0.5 * height, 0), (length * 1.005, height * 0.12, 0.174), stripe),
        *_wheels(wheels, 0.085, 0.15),
        *(ball((length, 0.14, z), (0.02, 0.025, 0.03), _LAMP) for z in (-0.1, 0.1)),
    ]


def _windows(rng: np.random.Generator) -> Material:
    return textured(rng, "panes", (0.5, 0.5, 0.5), (0.06, 0.09, 0.12), (5, 9), 0.9)


def _wheels(columns: tuple[float, ...], radius: float, half_track: float) -> list[Solid]:
    solids: list[Solid] = []
    for x in columns:
        for z in sorted({-half_track, half_track}):
            axle = turn(x=np.pi / 2)
            width = 0.035 if half_track else 0.05
            solids.append(cone((x, radius, z), (radius, width, radius), _RUBBER, 1.0, axle))
            solids.append(cone((x, radius, z), (radius * 0.55, width + 0.008, radius * 0.55), _STEEL, 1.0, axle))
    return solids
