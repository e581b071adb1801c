"""The 20 classes: how each is built, how large it is, where it is found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfed_ray.data.scenes import animals, furniture, people, vehicles
from mfed_ray.data.scenes.solids import Solid
from mfed_ray.data.scenes.surfaces import Setting
from mfed_ray.labels import PASCAL_CLASSES, PERSON

Builder = Callable[[np.random.Generator], list[Solid]]


@dataclass(frozen=True)
class Kind:
    """``label``: 0..20; ``context``: its id among PASCAL-Context's 459; ``build``: its solids, a fresh draw per call.

    ``scale``: share of the image's height per unit; ``settings``: where it occurs; ``flies``: it may be in the air.
    """

    label: int
    context: int
    build: Builder
    scale: float
    settings: tuple[Setting, ...]
    flies: bool = False


def _kind(name: str, context: int, build: Builder, scale: float, *settings: Setting, flies: bool = False) -> Kind:
    return Kind(PASCAL_CLASSES.index(name), context, build, scale, settings, flies)


KINDS: tuple[Kind, ...] = (
    _kind("aeroplane", 2, vehicles.aeroplane, 0.75, "field", "street", "water", flies=True),
    _kind("bicycle", 23, vehicles.bicycle, 0.55, "street", "field"),
    _kind("bird", 25, animals.bird, 0.4, "field", "water", "street", flies=True),
    _kind("boat", 31, vehicles.boat, 0.7, "water"),
    _kind("bottle", 34, furniture.bottle, 0.42, "room"),
    _kind("bus", 45, vehicles.bus, 0.85, "street"),
    _kind("car", 59, vehicles.car, 0.75, "street", "field"),
    _kind("cat", 65, animals.cat, 0.42, "room", "room", "street"),
    _kind("chair", 72, furniture.chair, 0.55, "room"),
    _kind("cow", 98, animals.cow, 0.55, "field"),
    _kind("diningtable", 397, furniture.dining_table, 0.7, "room"),
    _kind("dog", 113, animals.dog, 0.42, "room", "field", "street"),
    _kind("horse", 207, animals.horse, 0.5, "field"),
    _kind("motorbike", 258, vehicles.motorbike, 0.55, "street", "field"),
    _kind("pottedplant", 308, furniture.potted_plant, 0.5, "room", "street"),
    _kind("sheep", 347, animals.sheep, 0.45, "field"),
    _kind("sofa", 368, furniture.sofa, 0.7, "room"),
    _kind("train", 416, vehicles.train, 0.6, "street", "field"),
    _kind("tvmonitor", 427, furniture.television, 0.55, "room"),
)
CARTON = 37
"""PASCAL-Context's id of boxes."""

PERSON_KIND = Kind(PERSON, 284, people.person, 0.72, ("room", "street", "field"))
CLUTTER: tuple[Kind, ...] = (
    Kind(0, CARTON, furniture.carton, 0.3, ("room", "street")),
    Kind(0, 10, furniture.toy_ball, 0.3, ("room", "field", "street")),
    Kind(0, 87, furniture.traffic_cone, 0.28, ("street",)),
    Kind(0, 43, furniture.bucket, 0.25, ("room", "water", "field")),
    Kind(0, 420, furniture.tree, 0.5, ("field", "street")),
)
