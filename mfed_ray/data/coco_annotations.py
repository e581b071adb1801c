"""What COCO's four kinds of annotations say of a scene. Each pixel is of one thing, of one stuff class, or void."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from mfed_ray.annotations import mask_box
from mfed_ray.coco_categories import KEYPOINTS, MERGED_STUFF, STUFF, THINGS
from mfed_ray.data.polygons import polygons, runs
from mfed_ray.data.scenes import classes, surfaces
from mfed_ray.data.scenes.composition import Instance, Scene
from mfed_ray.labels import PASCAL_CLASSES, PERSON

Mask = NDArray[np.bool_]
Entry = dict[str, Any]
"""An object of a JSON file."""

IDS_PER_IMAGE = 1000
"""The id of an annotation is its image's id x this + the number of the object (1, 2, ...) or the category of the stuff
(92..183)."""

_RENAMED = {
    "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle", "pottedplant": "potted plant",
    "sofa": "couch", "tvmonitor": "tv",
}  # fmt: skip
_THING_ID = {one.name: one.id for one in THINGS}
_THING_OF = {
    label: _THING_ID[_RENAMED.get(name, name)] for label, name in enumerate(PASCAL_CLASSES) if name != "background"
}
"""COCO's category of each PASCAL label."""

_STUFF_OF_CONTEXT = {
    surfaces.BUILDING: "building-other", surfaces.FLOOR: "floor-other", surfaces.GRASS: "grass",
    surfaces.GROUND: "dirt", surfaces.MOUNTAIN: "mountain", surfaces.ROAD: "road", surfaces.RUG: "rug",
    surfaces.SAND: "sand", surfaces.SIDEWALK: "pavement", surfaces.SKY: "sky-other", surfaces.TREE: "tree",
    surfaces.WALL: "wall-other", surfaces.WATER: "water-other", surfaces.WINDOW: "window-other",
    classes.CARTON: "cardboard",
}  # fmt: skip
"""Stuff of the labels of PASCAL-Context; pictures and the rest of the clutter are void."""

_OTHER = STUFF[-1].id
_STUFF_ID = {one.name: one.id for one in STUFF}
_MERGED_ID = {one.name.removesuffix("-merged"): one.id for one in MERGED_STUFF}
_MERGED_OF = {_STUFF_ID[name]: _MERGED_ID[name] for name in _STUFF_OF_CONTEXT.values()}


@dataclass(frozen=True)
class Annotated:
    """``panoptic``: int32 [S, S], segment ids, 0 void; ``stuff``: uint8 [S, S], 92..183, 0 void.

    ``entries``: the annotations by kind: ``instances``, ``person_keypoints``, ``stuff``, and the one of ``panoptic``.
    """

    panoptic: NDArray[np.int32]
    stuff: NDArray[np.uint8]
    entries: dict[str, list[Entry]]


@dataclass(frozen=True)
class _Thing:
    """An object, or a crowd of them. ``keypoints``: of a person int32 [17, 3], zeros of a crowd."""

    number: int
    label: int
    mask: Mask
    crowd: bool
    keypoints: NDArray[np.int32] | None


def annotate(image_id: int, scene: Scene) -> Annotated:
    """All annotations of the scene.

    Where it has three or more objects of one class, the two smallest of them are one crowd. Objects too small to be
    among ``scene.objects`` are void, like everything that COCO has no class for.
    """
    things = _things(scene)
    stuff, panoptic = _stuff_map(scene, things), np.zeros(scene.classes.shape, np.int32)
    segments, instances, people = [], [], []
    for thing in things:
        category = _THING_OF[thing.label]
        segments.append(_segment(panoptic, thing.mask, category, thing.number, thing.crowd))
        instances.append(_instance(image_id, thing, category))
        if thing.keypoints is not None:
            people.append(instances[-1] | _pose(thing.keypoints))
    present = [int(one) for one in np.unique(stuff) if one]
    segments += [_segment(panoptic, stuff == one, _MERGED_OF[one], 0, False) for one in present if one != _OTHER]
    panoptic_entry = {"segments_info": segments, "file_name": f"{image_id:012d}.png", "image_id": image_id}
    stuff_entries = [_stuff(image_id, stuff == one, one) for one in present]
    entries = {"instances": instances, "person_keypoints": people, "stuff": stuff_entries, "panoptic": [panoptic_entry]}
    return Annotated(panoptic, stuff, entries)


def category_colour(category: int) -> tuple[int, int, int]:
    """RGB of a category id 1..255: odd factors, so that no two are alike in any channel, and none is 0."""
    return 67 * category % 256, 131 * category % 256, 197 * category % 256


def _things(scene: Scene) -> list[_Thing]:
    by_label: dict[int, list[Instance]] = {}
    for one in scene.objects:
        by_label.setdefault(one.label, []).append(one)
    things: list[_Thing] = []
    for label, alike in by_label.items():
        ranked = sorted(alike, key=lambda one: (np.count_nonzero(scene.instances == one.number), one.number))
        together = ranked[:2] if len(ranked) >= 3 else []
        groups = [[one] for one in alike if one not in together] + ([together] if together else [])
        things += [_thing(scene, label, [one.number for one in group]) for group in groups]
    return things


def _thing(scene: Scene, label: int, numbers: Sequence[int]) -> _Thing:
    crowd, keypoints = len(numbers) > 1, None
    if label == PERSON:
        keypoints = np.zeros((len(KEYPOINTS), 3), np.int32) if crowd else scene.keypoints[numbers[0]]
    return _Thing(numbers[0], label, np.isin(scene.instances, numbers), crowd, keypoints)


def _stuff_map(scene: Scene, things: Sequence[_Thing]) -> NDArray[np.uint8]:
    stuff = np.zeros(scene.labels.shape, np.uint8)
    for context, name in _STUFF_OF_CONTEXT.items():
        stuff[scene.labels == context] = _STUFF_ID[name]
    for thing in things:
        stuff[thing.mask] = _OTHER
    return stuff


def _instance(image_id: int, thing: _Thing, category: int) -> Entry:
    size = list(thing.mask.shape)
    return {
        "segmentation": {"counts": runs(thing.mask), "size": size} if thing.crowd else polygons(thing.mask),
        "area": int(thing.mask.sum()),
        "iscrowd": int(thing.crowd),
        "image_id": image_id,
        "bbox": _box(thing.mask),
        "category_id": category,
        "id": IDS_PER_IMAGE * image_id + thing.number,
    }


def _pose(keypoints: NDArray[np.int32]) -> Entry:
    return {"num_keypoints": int(np.count_nonzero(keypoints[:, 2])), "keypoints": keypoints.ravel().tolist()}


def _stuff(image_id: int, mask: Mask, category: int) -> Entry:
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": {"counts": encoded["counts"].decode("ascii"), "size": list(mask.shape)},
        "area": int(mask.sum()),
        "iscrowd": 0,
        "image_id": image_id,
        "bbox": _box(mask),
        "category_id": category,
        "id": IDS_PER_IMAGE * image_id + category,
    }


def _segment(panoptic: NDArray[np.int32], mask: Mask, category: int, number: int, crowd: bool) -> Entry:
    """Paint a segment: its colour is the category's, shifted by the number in red."""
    red, green, blue = category_colour(category)
    segment = (red + 37 * number) % 256 + 256 * green + 65536 * blue
    panoptic[mask] = segment
    return {
        "id": segment, "category_id": category, "iscrowd": int(crowd), "bbox": _box(mask), "area": int(mask.sum()),
    }  # fmt: skip


def _box(mask: Mask) -> list[int]:
    """COCO's x, y, width, height."""
    left, top, right, bottom = (int(edge) for edge in mask_box(mask))
    return [left, top, right - left, bottom - top]
