from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.coco_categories import STUFF
from mfed_ray.labels import PASCAL_CLASSES
from mfed_ray.predictions.contract import PredictionWriter
from mfed_ray.predictions.drawing import NOTHING
from mfed_ray.predictions.label_maps import ClassMaps, GreyMaps, NormalMaps, StuffMaps
from mfed_ray.predictions.palette import class_colour
from tests.predictions.notes import said


def photo(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def overlay(folder: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(folder / "overlays/a.png"))


def test_labels_are_the_values_of_a_palette_png(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 21, (30, 40), dtype=np.uint8)
    writer: PredictionWriter = ClassMaps(tmp_path / "new", PASCAL_CLASSES)
    writer.add("a", photo(rng, 30, 40), labels)
    writer.close()
    written = Image.open(tmp_path / "new/a.png")
    assert written.mode == "P"
    assert np.array_equal(np.asarray(written), labels)
    colours = np.asarray(written.convert("RGB"))
    assert (colours[labels == 0] == 0).all()
    assert (colours[labels == 15] == class_colour("person")).all()


def test_stuff_has_the_values_of_the_pixelmaps(tmp_path: Path) -> None:
    labels = np.arange(92, dtype=np.uint8).reshape(4, 23)
    StuffMaps(tmp_path).add("a", np.zeros((4, 23, 3), dtype=np.uint8), labels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.arange(92, 184).reshape(4, 23))


@pytest.mark.parametrize(
    ("make", "clear", "name"),
    [(partial(ClassMaps, names=PASCAL_CLASSES), 0, "bird"), (StuffMaps, 91, STUFF[3].name)],
)
def test_the_overlay_leaves_background_and_things_clear(
    tmp_path: Path, make: Callable[[Path], PredictionWriter], clear: int, name: str
) -> None:
    image = np.full((400, 400, 3), 100, dtype=np.uint8)
    labels = np.full((400, 400), clear, dtype=np.uint8)
    labels[:100] = 3
    make(tmp_path).add("a", image, labels)
    pixels = overlay(tmp_path)
    assert (pixels[100:400] == 100).all()
    assert np.allclose(pixels[20, 20], 0.55 * 100 + 0.45 * np.array(class_colour(name)), atol=0.5)
    # One class, hence one row of legend, with its colour.
    assert 410 < len(pixels) < 440
    assert (pixels[400:] == class_colour(name)).all(axis=2).any()


@pytest.mark.parametrize(("make", "clear"), [(partial(ClassMaps, names=PASCAL_CLASSES), 0), (StuffMaps, 91)])
def test_a_map_without_a_class_says_so(tmp_path: Path, make: Callable[[Path], PredictionWriter], clear: int) -> None:
    image = np.full((400, 400, 3), 100, dtype=np.uint8)
    make(tmp_path).add("a", image, np.full((400, 400), clear, dtype=np.uint8))
    assert said(tmp_path / "overlays/a.png", image, NOTHING)


@pytest.mark.parametrize(
    ("highest", "text"), [(0.0, "nothing found (at most 0.00)"), (0.099, f"{NOTHING} (at most 0.10)")]
)
def test_probabilities_that_nobody_would_see_are_told(tmp_path: Path, highest: float, text: str) -> None:
    image = np.full((400, 400, 3), 100, dtype=np.uint8)
    probabilities = np.zeros((400, 400), np.float32)
    probabilities[0, 0] = highest
    GreyMaps(tmp_path).add("a", image, probabilities)
    dark = np.full_like(image, 50)
    dark[0, 0] = overlay(tmp_path)[0, 0]
    assert said(tmp_path / "overlays/a.png", dark, text)


def test_a_glow_needs_no_words(tmp_path: Path) -> None:
    GreyMaps(tmp_path).add("a", np.zeros((400, 400, 3), np.uint8), np.full((400, 400), 0.11, np.float32))
    assert overlay(tmp_path).shape == (400, 400, 3)


def test_the_legend_names_the_largest_class_first(tmp_path: Path) -> None:
    labels = np.full((400, 400), 2, dtype=np.uint8)
    labels[:, :40] = 6
    ClassMaps(tmp_path, PASCAL_CLASSES).add("a", np.zeros((400, 400, 3), dtype=np.uint8), labels)
    legend = overlay(tmp_path)[400:]
    swatches = [np.nonzero((legend == class_colour(name)).all(axis=2))[1].min() for name in ("bicycle", "bus")]
    assert swatches[0] < 10 < swatches[1]


def test_probabilities_are_grey_values(tmp_path: Path) -> None:
    probabilities = np.array([[0, 0.5, 1], [0.1, 0.999, 0.25]], dtype=np.float32)
    writer: PredictionWriter = GreyMaps(tmp_path)
    writer.add("a", np.full((2, 3, 3), 200, dtype=np.uint8), probabilities)
    writer.close()
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 128, 255], [26, 255, 64]]
    pixels = overlay(tmp_path)
    assert pixels.shape == (256, 384, 3)
    assert pixels[20, 20].tolist() == [100, 100, 100]
    # 90% of the way from the darkened image to orange.
    assert pixels[20, 380].tolist() == [217, 153, 10]


def test_normals_are_colours(tmp_path: Path) -> None:
    normals = np.array([[[0, 0, 1], [-1, 0, 0]], [[0.6, 0.8, 0], [0, 0, 0]]], dtype=np.float32)
    writer: PredictionWriter = NormalMaps(tmp_path)
    writer.add("a", np.zeros((2, 2, 3), dtype=np.uint8), normals)
    writer.close()
    written = np.asarray(Image.open(tmp_path / "a.png"))
    assert written.tolist() == [[[128, 128, 255], [0, 128, 128]], [[204, 230, 128], [128, 128, 128]]]
    assert overlay(tmp_path)[10, 10].tolist() == [90, 90, 178]
