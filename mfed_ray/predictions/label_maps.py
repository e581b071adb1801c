"""Predictions for every pixel as PNGs: classes, probabilities, surface normals."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.coco_categories import STUFF
from mfed_ray.predictions.drawing import NOTHING, Picture, overlay_folder
from mfed_ray.predictions.palette import HUES, class_colour

_ORANGE = np.array(HUES[0])
_DIM, _GLOW, _NORMALS = 0.5, 0.9, 0.7

VISIBLE = 0.1
"""A probability that is seen as a glow on a darkened image."""


class ClassMaps:
    """Classes as palette PNGs ``<name>.png``: the value of label i, which is ``names[i]``, is ``first`` + i.

    ``overlays/<name>.png`` shows them over the image with a legend, largest first, the label ``clear`` left clear; or
    says that nothing was found.
    """

    def __init__(self, folder: Path, names: Sequence[str], first: int = 0, clear: int = 0) -> None:
        self._folder, self._overlays = folder, overlay_folder(folder)
        self._names, self._first, self._clear = names, first, clear
        self._colours = [class_colour(name) for name in names]
        self._palette = np.zeros((256, 3), dtype=np.uint8)
        self._palette[first : first + len(names)] = self._colours
        self._palette[first + clear] = 0

    def add(self, name: str, image: NDArray[np.uint8], prediction: NDArray[Any]) -> None:
        """One image, uint8 [H, W, 3], and its labels, integers [H, W]."""
        picture = Image.fromarray((prediction + self._first).astype(np.uint8))
        picture.putpalette(self._palette.tobytes())
        picture.save(self._folder / f"{name}.png")
        labels = prediction.astype(np.int64)
        overlay = Picture(image)
        regions = np.where(labels == self._clear, -1, labels)
        overlay.tint(regions, self._colours)
        overlay.names(regions, self._names, self._colours)
        pixels = np.bincount(labels.reshape(-1), minlength=len(self._names))
        present = [label for label in np.argsort(-pixels, kind="stable") if pixels[label] and label != self._clear]
        overlay.legend([(self._names[label], self._colours[label]) for label in present])
        if not present:
            overlay.note(NOTHING)
        overlay.save(self._overlays / f"{name}.png")

    def close(self) -> None:
        """Nothing is left to write."""


StuffMaps = partial(ClassMaps, names=[category.name for category in STUFF], first=STUFF[0].id, clear=len(STUFF) - 1)
"""Stuff with the values of COCO's pixelmaps, 92..183; "other", which is every thing, is left clear."""


class GreyMaps:
    """Probabilities as grey PNGs ``<name>.png``, 255 is 1; ``overlays/<name>.png``: orange on the darkened image.

    Where no probability is ``VISIBLE``, the overlay says that nothing was found, and the highest.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._overlays = folder, overlay_folder(folder)

    def add(self, name: str, image: NDArray[np.uint8], prediction: NDArray[Any]) -> None:
        """One image, uint8 [H, W, 3], and its probabilities, float [H, W]."""
        Image.fromarray(np.rint(prediction * 255).astype(np.uint8)).save(self._folder / f"{name}.png")
        overlay = Picture(image)
        overlay.blend(np.zeros(3), np.full(prediction.shape, _DIM))
        overlay.blend(_ORANGE, prediction * _GLOW)
        if (highest := float(prediction.max(initial=0))) < VISIBLE:
            overlay.note(f"{NOTHING} (at most {highest:.2f})")
        overlay.save(self._overlays / f"{name}.png")

    def close(self) -> None:
        """Nothing is left to write."""


class NormalMaps:
    """Unit vectors n as RGB PNGs ``<name>.png`` of (n + 1) 127.5; ``overlays/<name>.png``: these over the image."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._overlays = folder, overlay_folder(folder)

    def add(self, name: str, image: NDArray[np.uint8], prediction: NDArray[Any]) -> None:
        """One image, uint8 [H, W, 3], and its unit vectors, float [H, W, 3]."""
        colours = np.rint((prediction + 1) * 127.5).astype(np.uint8)
        Image.fromarray(colours).save(self._folder / f"{name}.png")
        overlay = Picture(image)
        overlay.blend(colours, np.full(image.shape[:2], _NORMALS))
        overlay.save(self._overlays / f"{name}.png")

    def close(self) -> None:
        """Nothing is left to write."""
