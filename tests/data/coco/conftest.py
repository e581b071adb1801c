"""A COCO folder small enough to know by heart: images of 32 x 24 pixels (width x height)."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mfed_ray.coco_categories import PANOPTIC, STUFF, THINGS

Tree = dict[str, Any]
Edit = Callable[[str], AbstractContextManager[Tree]]

NOSE_AND_EYE = [13, 11, 2, 14, 11, 1, *[0] * 45]
CROWD_PIXELS = 131329  # of the PNG's colour (1, 1, 2)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((24, 32), np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def runs(mask: np.ndarray) -> Tree:
    """Compressed run lengths."""
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def entry(number: int, image: int, category: int, bbox: list[float], area: float, mask: Any, crowd: int = 0) -> Tree:
    names = ("id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd")
    return dict(zip(names, (number, image, category, bbox, area, mask, crowd), strict=True))


def _image(number: int) -> Tree:
    return {"id": number, "file_name": f"{number:012d}.jpg", "height": 24, "width": 32, "license": 1}


def _trees() -> dict[str, Tree]:
    """Image 7 has everything, image 3 nothing; image 5, of val, has a bear and no other annotation file."""
    dog = entry(70, 7, 18, [2, 3, 8, 6], 48, [[2, 3, 10, 3, 10, 9, 2, 9]])
    crowd = entry(71, 7, 1, [20, 0, 2, 24], 48, {"size": [24, 32], "counts": [480, 48, 240]}, 1)
    person = entry(72, 7, 1, [12, 10, 6, 10], 60, runs(rectangle(12, 10, 18, 20)))
    flat = entry(73, 7, 90, [5, 5, 0, 3], 0, [[5, 5, 5, 8, 5, 6]])
    bear = entry(50, 5, 23, [0.5, 0.25, 30, 20], 600, [[0.5, 0.25, 30.5, 0.25, 30.5, 20.25, 0.5, 20.25]])
    banner = entry(1, 7, 92, [0, 0, 32, 12], 384, runs(rectangle(0, 0, 32, 12)))
    other = entry(2, 7, 183, [0, 12, 32, 8], 256, runs(rectangle(0, 12, 32, 20)))
    segments = [
        {"id": 200, "category_id": 18, "bbox": [2, 3, 8, 6], "area": 48, "iscrowd": 0},
        {"id": CROWD_PIXELS, "category_id": 1, "bbox": [20, 0, 2, 24], "area": 48, "iscrowd": 1},
        {"id": 3, "category_id": 200, "bbox": [0, 20, 20, 4], "area": 80, "iscrowd": 0},
    ]
    train = {"images": [_image(7), _image(3)]}
    people = [crowd | {"keypoints": [0] * 51, "num_keypoints": 0}, person | {"keypoints": NOSE_AND_EYE}]
    panoptic: list[Tree] = [
        {"image_id": image, "file_name": f"{image:012d}.png", "segments_info": []} for image in (7, 3)
    ]
    panoptic[0]["segments_info"] = segments
    trees = {
        "instances_train2017": train | {"annotations": [dog, crowd, person, flat]},
        "person_keypoints_train2017": train | {"annotations": people},
        "stuff_train2017": train | {"annotations": [banner, other]},
        "panoptic_train2017": train | {"annotations": panoptic},
        "instances_val2017": {"images": [_image(5)], "annotations": [bear]},
    }
    return {name: tree | {"categories": _categories(name)} for name, tree in trees.items()}


def _categories(name: str) -> list[Tree]:
    known = {"stuff": STUFF, "panoptic": PANOPTIC}.get(name.partition("_")[0], THINGS)
    return [{"id": one.id, "name": one.name} for one in known]


def panoptic_map() -> np.ndarray:
    ids = np.zeros((24, 32), np.int32)
    ids[3:9, 2:10], ids[:, 20:22], ids[20:, :20] = 200, CROWD_PIXELS, 3
    return ids


def write_png(root: Path, image: int, ids: np.ndarray) -> None:
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(root / f"annotations/panoptic_train2017/{image:012d}.png")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where indexes go."""
    monkeypatch.setenv("MFED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small COCO folder."""
    root = tmp_path / "small"
    for name in ("annotations/panoptic_train2017", "train2017", "val2017"):
        (root / name).mkdir(parents=True)
    for name, tree in _trees().items():
        (root / f"annotations/{name}.json").write_text(json.dumps(tree))
    rng = np.random.default_rng(0)
    for number, split, shape in ((7, "train", (24, 32, 3)), (3, "train", (24, 32, 3)), (5, "val", (24, 32))):
        pixels = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(root / f"{split}2017/{number:012d}.jpg")
    write_png(root, 7, panoptic_map())
    write_png(root, 3, np.zeros((24, 32), np.int32))
    return root


@pytest.fixture
def hide() -> Callable[[Path], None]:
    """``hide(path)``: put in its place what not even root can look at or open, a link to a name that is too long."""

    def replace(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to("x" * 300)

    return replace


@pytest.fixture
def edit(folder: Path) -> Edit:
    """``with edit("stuff_train2017") as tree``: change an annotation file of the small folder."""

    @contextmanager
    def change(name: str) -> Iterator[Tree]:
        path = folder / f"annotations/{name}.json"
        tree = json.loads(path.read_text())
        yield tree
        path.write_text(json.dumps(tree))

    return change
