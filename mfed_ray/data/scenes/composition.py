"""A whole scene: backdrop, objects from far to near, light, camera; and the truth of every task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfed_ray.data.scenes.arrays import Floats
from mfed_ray.data.scenes.classes import CLUTTER, KINDS, PERSON_KIND, Kind
from mfed_ray.data.scenes.keypoints import keypoints
from mfed_ray.data.scenes.lighting import Light, cast_shadows, photograph, random_light
from mfed_ray.data.scenes.render import Layer, Pose, render
from mfed_ray.data.scenes.saliency import salient_mask
from mfed_ray.data.scenes.solids import Solid, turn
from mfed_ray.data.scenes.surfaces import Backdrop, Setting, backdrop
from mfed_ray.labels import PERSON

_FINE = 2  # pixels are traced at twice the resolution; the image is their mean, the truth every second one
_SMALLEST = 0.004  # share of the image below which an object counts as hidden


@dataclass(frozen=True)
class Instance:
    """An object of one of the 20 classes; its pixels carry its number (1, 2, ...) in ``Scene.instances``."""

    number: int
    label: int


@dataclass(frozen=True)
class Scene:
    """A picture of S x S pixels and the truth about it.

    ``image``: uint8 [S, S, 3]; ``classes``: uint8 [S, S], 0..20; ``instances``: uint8 [S, S], 0 background;
    ``parts``: uint8 [S, S], 0 or 1 + index in ``people.PART_NAMES``; ``salient``: bool [S, S];
    ``labels``: uint16 [S, S], PASCAL-Context's 459 ids; ``normals``: float32 [S, S, 3], unit vectors (x right, y up,
    z towards the viewer) or zero in the sky; ``keypoints``: by the number of each person, int32 [17, 3], column,
    row and visibility (0 outside the image, 1 hidden, 2 visible) in the order of COCO.
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    objects: tuple[Instance, ...]
    parts: NDArray[np.uint8]
    salient: NDArray[np.bool_]
    labels: NDArray[np.uint16]
    normals: Floats
    keypoints: Mapping[int, NDArray[np.int32]]


def make_scene(rng: np.random.Generator, size: int, with_person: bool) -> Scene:
    """A random scene with at least one visible object; people are in it exactly if ``with_person``."""
    while True:
        scene = _attempt(rng, size, with_person)
        visible = {one.label for one in scene.objects}
        if visible and (PERSON in visible) == with_person:
            return scene


@dataclass(frozen=True)
class _Placed:
    """An object of the scene. ``layer``: None if it is not in the picture at all."""

    kind: Kind
    pose: Pose
    solids: list[Solid]
    layer: Layer | None


class _Truth:
    """The arrays that objects are painted into, at the fine resolution."""

    def __init__(self, scenery: Backdrop) -> None:
        self.albedo, self.normals = scenery.albedo.copy(), scenery.normals.copy()
        self.labels = scenery.labels.copy()
        self.gloss = np.zeros(self.labels.shape, np.float32)
        self.classes, self.instances, self.parts = (np.zeros(self.labels.shape, np.uint8) for _ in range(3))

    def paint(self, layer: Layer, kind: Kind, number: int) -> None:
        """Put an object in front of everything painted so far."""
        at = np.nonzero(layer.mask)
        place = (at[0] + layer.window[0].start, at[1] + layer.window[1].start)
        self.albedo[place], self.normals[place] = layer.albedo[at], layer.normals[at]
        self.gloss[place], self.parts[place] = layer.gloss[at], layer.parts[at]
        self.labels[place], self.classes[place], self.instances[place] = kind.context, kind.label, number


def _attempt(rng: np.random.Generator, size: int, with_person: bool) -> Scene:
    fine = size * _FINE
    setting, kinds = _cast(rng, with_person)
    scenery, light = backdrop(rng, setting, fine), random_light(rng)
    posed = sorted(((kind, _pose(rng, kind, scenery, fine)) for kind in kinds), key=lambda one: one[1].row)
    placed = [_place(rng, kind, pose, fine) for kind, pose in posed]
    truth = _Truth(scenery)
    shadow = cast_shadows([(one.pose, one.layer) for one in placed if one.layer], scenery, light)
    truth.albedo *= shadow[:, :, None]
    for number, one in enumerate(placed, start=1):
        if one.layer is not None:
            truth.paint(one.layer, one.kind, number)
    return _develop(rng, truth, placed, light)


def _cast(rng: np.random.Generator, with_person: bool) -> tuple[Setting, list[Kind]]:
    """A setting and what stands in it; the first object chosen decides the setting."""
    first = KINDS[int(rng.integers(len(KINDS)))]
    where = [one for one in first.settings if not with_person or one in PERSON_KIND.settings]
    if not where:
        first, where = PERSON_KIND, list(PERSON_KIND.settings)
    setting = where[int(rng.integers(len(where)))]
    company = [kind for kind in KINDS if setting in kind.settings]
    clutter = [kind for kind in CLUTTER if setting in kind.settings]
    kinds = [first]
    kinds += [company[int(rng.integers(len(company)))] for _ in range(int(rng.integers(0, 3)))]
    kinds += [clutter[int(rng.integers(len(clutter)))] for _ in range(int(rng.integers(0, 2)) if clutter else 0)]
    if with_person:
        kinds += [PERSON_KIND] * int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    return setting, kinds


def _pose(rng: np.random.Generator, kind: Kind, scenery: Backdrop, size: int) -> Pose:
    """Somewhere on the ground, larger where it is nearer; fliers may be anywhere in the sky."""
    low = scenery.foot + 0.04 * size
    row = float(rng.uniform(low, max(1.05 * size, low + 1)))
    nearness = (row - scenery.horizon) / (size - scenery.horizon)
    scale = size * kind.scale * (0.45 + 0.75 * nearness) * float(np.exp(rng.normal(0.12, 0.28)))
    if kind.flies and rng.random() < 0.7:
        row = float(rng.uniform(0.25, 0.9)) * scenery.foot
    if scale > 0.9 * size:
        row += 0.5 * (scale - 0.9 * size)  # very near: the feet are out of the picture
    rotation = turn(x=scenery.pitch) @ turn(y=float(rng.uniform(-np.pi, np.pi)))
    column = float(rng.uniform(0.1, 0.9)) * size
    return Pose(column, row, scale, rotation.astype(np.float32))


def _place(rng: np.random.Generator, kind: Kind, pose: Pose, size: int) -> _Placed:
    solids = kind.build(rng)
    return _Placed(kind, pose, solids, render(solids, pose, size))


def _develop(rng: np.random.Generator, truth: _Truth, placed: Sequence[_Placed], light: Light) -> Scene:
    image = photograph(rng, truth.albedo, truth.normals, truth.gloss, light)
    pick = (slice(None, None, _FINE),) * 2
    classes, instances, normals = truth.classes[pick], truth.instances[pick], truth.normals[pick]
    enough = _SMALLEST * classes.size
    objects = tuple(
        Instance(number, one.kind.label)
        for number, one in enumerate(placed, start=1)
        if one.kind.label and np.count_nonzero(instances == number) >= enough
    )
    people = {
        number: keypoints(one.solids, one.pose, one.layer, truth.instances == number, _FINE)
        for number, one in enumerate(placed, start=1)
        if one.layer and one.kind is PERSON_KIND
    }
    salient = salient_mask(image, instances, [one.number for one in objects])
    return Scene(image, classes, instances, objects, truth.parts[pick], salient, truth.labels[pick], normals, people)
