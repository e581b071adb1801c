import json
from pathlib import Path

import numpy as np
from PIL import Image

from mfed_ray.annotations import Segments
from mfed_ray.predictions.coco_panoptic import CocoPanoptic
from mfed_ray.predictions.contract import PredictionWriter
from mfed_ray.predictions.drawing import NOTHING
from mfed_ray.predictions.palette import class_colour, shade
from tests.predictions.notes import said


def test_segments_are_read_back(tmp_path: Path) -> None:
    ids = np.array([1, 70000, 255, 256])
    segments = np.array([0, *ids], dtype=np.int32)[np.random.default_rng(0).integers(0, 5, (20, 30))]
    writer: PredictionWriter = CocoPanoptic(tmp_path / "new")
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    writer.add("000000000139", image, Segments(segments, ids, np.array([0, 79, 80, 132])))
    writer.add("garden", image, Segments(np.zeros((20, 30), dtype=np.int32), np.zeros(0, int), np.zeros(0, int)))
    writer.close()
    first, second = json.loads((tmp_path / "new/panoptic.json").read_text())["annotations"]
    rgb = np.asarray(Image.open(tmp_path / "new/panoptic" / first["file_name"])).astype(int)
    assert np.array_equal(rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2], segments)
    assert first["image_id"] == 139
    assert first["segments_info"] == [
        {"id": 1, "category_id": 1},
        {"id": 70000, "category_id": 90},
        {"id": 255, "category_id": 92},
        {"id": 256, "category_id": 200},
    ]
    assert second == {"image_id": "garden", "file_name": "garden.png", "segments_info": []}
    assert not np.asarray(Image.open(tmp_path / "new/panoptic/garden.png")).any()
    assert said(tmp_path / "new/overlays/garden.png", image, NOTHING)


def test_segments_without_a_pixel_are_left_out(tmp_path: Path) -> None:
    writer = CocoPanoptic(tmp_path)
    one = np.full((4, 4), 5, dtype=np.int32)
    writer.add("a", np.zeros((4, 4, 3), dtype=np.uint8), Segments(one, np.array([3, 5]), np.array([0, 1])))
    writer.close()
    (annotation,) = json.loads((tmp_path / "panoptic.json").read_text())["annotations"]
    assert annotation["segments_info"] == [{"id": 5, "category_id": 2}]


def test_the_overlay_tells_instances_apart_and_leaves_void_clear(tmp_path: Path) -> None:
    image = np.full((400, 400, 3), 100, dtype=np.uint8)
    segments = np.zeros((400, 400), dtype=np.int32)
    segments[:200, :200], segments[:200, 200:] = 8, 9
    CocoPanoptic(tmp_path).add("a", image, Segments(segments, np.array([8, 9]), np.array([16, 16])))
    pixels = np.asarray(Image.open(tmp_path / "overlays/a.png"))
    first, second = class_colour("dog"), shade(class_colour("dog"), 1)
    assert np.allclose(pixels[20, 20], 55 + 0.45 * np.array(first), atol=0.5)
    assert np.allclose(pixels[20, 380], 55 + 0.45 * np.array(second), atol=0.5)
    assert (pixels[200:400] == 100).all()
    # The class has one entry, in its own colour.
    assert (pixels[400:] == first).all(axis=2).any()
    assert not (pixels[400:] == second).all(axis=2).any()
