"""Random colours and materials."""

import colorsys

import numpy as np

from mfed_ray.data.scenes.textures import Colour, Material, Pattern

Range = tuple[float, float]

PAINTS = (0.0, 0.03, 0.09, 0.14, 0.33, 0.45, 0.56, 0.6, 0.66, 0.85)


def tint(rng: np.random.Generator, hue: Range, saturation: Range, value: Range) -> Colour:
    """Linear RGB of a uniform draw in hue, saturation, value."""
    h, s, v = (float(rng.uniform(*bounds)) for bounds in (hue, saturation, value))
    red, green, blue = colorsys.hsv_to_rgb(h % 1, s, v)
    return red, green, blue


def fabric(rng: np.random.Generator, patterns: tuple[Pattern, ...] = ("plain", "stripes", "checks")) -> Material:
    """Cloth of any hue."""
    hue = float(rng.random())
    first = tint(rng, (hue - 0.04, hue + 0.04), (0.1, 0.85), (0.08, 0.8))
    other = tint(rng, (hue - 0.3, hue + 0.3), (0.0, 0.8), (0.1, 0.9))
    strength = float(rng.uniform(0.25, 1.0))
    red, green, blue = (a + strength * (b - a) for a, b in zip(first, other, strict=True))
    second = (red, green, blue)
    pattern = patterns[int(rng.integers(len(patterns)))]
    if pattern == "plain":
        second = shade(first, 0.8)
    return textured(rng, pattern, first, second, (6, 14))


def paint(rng: np.random.Generator, gloss: float = 0.6) -> Material:
    """Glossy paint, as on vehicles: mostly saturated, at times white, grey or black."""
    if rng.random() < 0.4:
        grey = float(rng.choice([0.05, 0.3, 0.55, 0.8]))
        colour: Colour = (grey, grey, grey * 1.04)
    else:
        hue = float(rng.choice(PAINTS))
        colour = tint(rng, (hue - 0.02, hue + 0.02), (0.6, 0.95), (0.35, 0.8))
    return textured(rng, "plain", colour, shade(colour, 0.9), (1, 2), gloss)


def wood(rng: np.random.Generator) -> Material:
    """Wood from pale pine to dark walnut."""
    colour = tint(rng, (0.05, 0.1), (0.45, 0.75), (0.18, 0.65))
    return textured(rng, "grain", colour, shade(colour, 0.6), (4, 8), 0.12)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour times a factor."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def textured(
    rng: np.random.Generator, pattern: Pattern, first: Colour, second: Colour, frequency: Range, gloss: float = 0.0
) -> Material:
    """A material with a random frequency in the range and a random offset."""
    offset = (float(rng.random()), float(rng.random()))
    return Material(pattern, first, second, float(rng.uniform(*frequency)), gloss, offset)


def solid_colour(colour: Colour, gloss: float = 0.0) -> Material:
    """Almost even colour."""
    return Material("plain", colour, shade(colour, 0.85), gloss=gloss)
