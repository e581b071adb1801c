"""Colours of classes and of their instances: the same in every task, told apart by colour-blind people too."""

from collections.abc import Sequence
from zlib import crc32

from mfed_ray.coco_categories import PANOPTIC, STUFF, THINGS
from mfed_ray.labels import PART_CLASSES, PASCAL_CLASSES

Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""

HUES: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)
)  # fmt: skip
"""Okabe and Ito, Color Universal Design, 2008, without black: orange, sky, green, yellow, blue, vermilion, purple."""

_GOLDEN = 0.6180339887498949
_DEEPEST = 0.6


_PASCAL_NAMES = {
    "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle", "pottedplant": "potted plant",
    "sofa": "couch", "tvmonitor": "tv",
}  # fmt: skip
"""PASCAL's classes that COCO calls otherwise."""


def class_colour(name: str) -> Colour:
    """The colour of a class by its name, whatever its label in a task is."""
    known = _common(name)
    return colour(_NUMBERS.get(known, len(_NUMBERS) + crc32(known.encode()) % 1000))


def colour(number: int) -> Colour:
    """Numbers take the hues in turn, and from one turn to the next other shades of them."""
    turn, hue = divmod(number, len(HUES))
    return shade(HUES[hue], turn)


def _common(name: str) -> str:
    """What data sets and tasks call the class together; a merged class of the panoptic task has its part's name."""
    return _PASCAL_NAMES.get(name, name).removesuffix("-merged")


_CATEGORIES = [category.name for space in (THINGS, STUFF, PANOPTIC) for category in space]
_NAMES = dict.fromkeys(map(_common, [*_CATEGORIES, *PASCAL_CLASSES, *PART_CLASSES]))
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}


def shade(colour: Colour, number: int) -> Colour:
    """The colour itself for number 0, then shades between 60% black and 60% white, each far from those just before."""
    amount = ((0.5 + number * _GOLDEN) % 1 * 2 - 1) * _DEEPEST
    towards = 255 if amount > 0 else 0
    red, green, blue = (round(value + (towards - value) * abs(amount)) for value in colour)
    return red, green, blue


def instance_colours(names: Sequence[str]) -> list[Colour]:
    """Shades of the classes' colours for instances of the classes ``names``; a class's first has its colour."""
    seen: dict[str, int] = {}
    colours = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        colours.append(shade(class_colour(name), seen[name]))
    return colours
