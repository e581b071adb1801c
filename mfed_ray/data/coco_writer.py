"""Scenes to the files of COCO 2017. The same scene gives the same bytes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mfed_ray.coco_categories import KEYPOINTS, PANOPTIC, SKELETON, STUFF, THINGS, Category
from mfed_ray.data.coco_annotations import Entry, annotate, category_colour
from mfed_ray.data.scenes.composition import Scene

SPLITS = ("train2017", "val2017")

_INFO = {
    "description": "Generated scenes in the format of COCO 2017", "url": "", "version": "1.0", "year": 2017,
    "contributor": "mfed_ray", "date_created": "",
}  # fmt: skip


def make_folders(root: Path) -> None:
    """Everything that files are written into, below ``root``."""
    for split in SPLITS:
        for folder in (split, f"annotations/panoptic_{split}", f"annotations/stuff_{split}_pixelmaps"):
            (root / folder).mkdir(parents=True)


def write_scene(root: Path, split: str, image_id: int, scene: Scene) -> dict[str, list[Entry]]:
    """Write the picture, its panoptic PNG and its stuff pixelmap where ``make_folders`` made room for them.

    Returns what the JSON files say of it: its entry under ``images``, its annotations under each of the four kinds.
    """
    annotated, name = annotate(image_id, scene), f"{image_id:012d}"
    Image.fromarray(scene.image).save(root / split / f"{name}.jpg", quality=92)
    ids = annotated.panoptic
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(root / f"annotations/panoptic_{split}" / f"{name}.png")
    Image.fromarray(annotated.stuff).save(root / f"annotations/stuff_{split}_pixelmaps" / f"{name}.png")
    height, width = ids.shape
    image = {"file_name": f"{name}.jpg", "height": height, "width": width, "id": image_id}
    return {"images": [image], **annotated.entries}


def write_annotations(root: Path, split: str, written: Sequence[dict[str, list[Entry]]]) -> None:
    """The four JSON files of a split from what ``write_scene`` returned of its images."""
    images = [entry for one in written for entry in one["images"]]
    for kind, categories in _categories().items():
        annotations = [entry for one in written for entry in one[kind]]
        content = {
            "info": _INFO, "licenses": [], "images": images, "annotations": annotations, "categories": categories,
        }  # fmt: skip
        text = json.dumps(content, separators=(",", ":"))
        (root / "annotations" / f"{kind}_{split}.json").write_text(text, encoding="utf-8")


def _categories() -> dict[str, list[Entry]]:
    person = _entry(THINGS[0]) | {
        "keypoints": list(KEYPOINTS), "skeleton": [[first + 1, second + 1] for first, second in SKELETON],
    }  # fmt: skip
    panoptic = [
        _entry(one) | {"isthing": int(index < len(THINGS)), "color": list(category_colour(one.id))}
        for index, one in enumerate(PANOPTIC)
    ]
    return {
        "instances": [_entry(one) for one in THINGS],
        "person_keypoints": [person],
        "stuff": [_entry(one) for one in STUFF],
        "panoptic": panoptic,
    }


def _entry(category: Category) -> dict[str, Any]:
    return {"supercategory": category.supercategory, "id": category.id, "name": category.name}
