"""Colours of classes and of their instances: the same in every picture, told apart by colour-blind people too."""

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""

HUES: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)
)  # fmt: skip
"""Okabe and Ito, Color Universal Design, 2008, without black: orange, sky, green, yellow, blue, vermilion, purple."""

_GOLDEN = 0.6180339887498949
_DEEPEST = 0.6


def class_colour(label: int) -> Colour:
    """Classes take the hues in turn, and from one turn to the next other shades of them."""
    turn, hue = divmod(label, len(HUES))
    return shade(HUES[hue], turn)


def shade(colour: Colour, number: int) -> Colour:
    """The colour itself for number 0, then shades between 60% black and 60% white, each far from those just before."""
    amount = ((0.5 + number * _GOLDEN) % 1 * 2 - 1) * _DEEPEST
    towards = 255 if amount > 0 else 0
    red, green, blue = (round(value + (towards - value) * abs(amount)) for value in colour)
    return red, green, blue


def instance_colours(labels: NDArray[np.int64]) -> list[Colour]:
    """Shades of the classes' colours for instances of the classes ``labels`` [N]; a class's first has its colour."""
    seen: dict[int, int] = {}
    colours = []
    for label in labels.tolist():
        seen[label] = seen.get(label, -1) + 1
        colours.append(shade(class_colour(label), seen[label]))
    return colours
