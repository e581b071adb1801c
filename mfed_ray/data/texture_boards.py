"""Generated boards of pure texture in inverted colours, in the layout of PASCAL-Context: tasks unlike the scenes'.

No objects, no light, no depth: cells of a random Voronoi diagram, each filled with one of ``PATTERNS`` in two random
colours, the picture turned into its negative. Three tasks need the same features, those that tell patterns apart:

- ``semantic_segmentation``: a pixel's class is its cell's pattern
- ``saliency``: the cells of ``SALIENT`` patterns
- ``edge_detection``: the borders between cells of different patterns
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.data.generated_folder import Parameters, generate_folder
from mfed_ray.data.pascal_writer import save_mat, write_splits
from mfed_ray.data.scenes.palette import textured, tint
from mfed_ray.data.scenes.textures import Material, Pattern, albedo

FORMAT_VERSION = 2
"""Raised whenever the same parameters would give another folder."""

PATTERNS: tuple[Pattern, ...] = ("stripes", "checks", "spots", "foliage")
"""Class 1 and on; there is no background."""

SALIENT: tuple[Pattern, ...] = ("stripes", "checks")

CELLS = 3


@dataclass(frozen=True)
class _BoardParameters(Parameters):
    layout: str = "textures"


def generate_textures(
    root: str | Path,
    images: int = 500,
    size: int = 96,
    seed: int = 0,
    val_fraction: float = 0.25,
    on_progress: Callable[[int, int], None] | None = None,
    processes: int = 1,
) -> None:
    """Write boards for ``PascalContext`` into the new folder ``root``: three tasks, splits train and val.

    Parameters, promises and errors are those of ``generated.generate_pascal_context``; ``processes`` changes nothing,
    a board takes a millisecond.
    """
    del processes
    parameters = _BoardParameters(images, size, seed, val_fraction, FORMAT_VERSION)
    generate_folder(Path(root), parameters, partial(_write, parameters=parameters, on_progress=on_progress))


def make_board(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture, uint8 [size, size, 3], and its classes, uint8 [size, size], from 1."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / np.float32(size)
    centres = rng.random((CELLS, 2), dtype=np.float32)
    cells = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in centres], axis=0)
    picture, classes = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.uint8)
    for cell in range(CELLS):
        inside, number = cells == cell, int(rng.integers(len(PATTERNS)))
        angle, material = rng.uniform(0, np.pi), _material(rng, PATTERNS[number])
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x, y = columns[inside], rows[inside]
        picture[inside] = albedo(material, cos * x - sin * y, sin * x + cos * y)
        classes[inside] = number + 1
    negative = 1 - np.clip(picture, 0, 1) ** np.float32(1 / 2.2)
    return np.round(255 * negative).astype(np.uint8), classes


def salient(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a board's classes [S, S] are those of ``SALIENT`` patterns."""
    return np.isin(classes, [PATTERNS.index(pattern) + 1 for pattern in SALIENT])


def _material(rng: np.random.Generator, pattern: Pattern) -> Material:
    """A dark colour and a light one: the pattern is plain to see whatever the hues."""
    dark, light = tint(rng, (0, 1), (0.2, 0.9), (0.0, 0.3)), tint(rng, (0, 1), (0.0, 0.5), (0.7, 1.0))
    return textured(rng, pattern, dark, light, (6, 10))


def _write(root: Path, parameters: Parameters, on_progress: Callable[[int, int], None] | None) -> None:
    for folder in ("JPEGImages", "semseg/VOC12", "sal_distill", "pascal-context/trainval"):
        (root / folder).mkdir(parents=True)
    names = [f"board_{index:06d}" for index in range(parameters.images)]
    write_splits(root, names, parameters.splits())
    for index, name in enumerate(names):
        picture, classes = make_board(np.random.default_rng([parameters.seed, index]), parameters.size)
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        Image.fromarray(classes).save(root / "semseg/VOC12" / f"{name}.png")
        Image.fromarray(salient(classes).astype(np.uint8) * 255).save(root / "sal_distill" / f"{name}.png")
        save_mat(root / "pascal-context/trainval" / f"{name}.mat", {"LabelMap": classes})
        if on_progress is not None:
            on_progress(index + 1, parameters.images)
