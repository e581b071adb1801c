"""Panoptic segments in COCO's panoptic format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.annotations import Segments
from mfed_ray.coco_categories import PANOPTIC
from mfed_ray.predictions.coco_results import image_id
from mfed_ray.predictions.drawing import NOTHING, Picture, overlay_folder
from mfed_ray.predictions.palette import class_colour, instance_colours


class CocoPanoptic:
    """``panoptic.json`` and the PNGs that it names, in ``panoptic/``: where the panoptic API looks for them.

    A pixel's segment is R + 256 G + 65536 B, 0 is void. An image's id is its name, as a number if it is one.
    ``overlays/<name>.png`` shows the segments with a legend of their classes, largest first, or says
    that nothing was found.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._overlays = folder, overlay_folder(folder)
        (folder / "panoptic").mkdir(exist_ok=True)
        self._annotations: list[dict[str, Any]] = []

    def add(self, name: str, image: NDArray[np.uint8], prediction: Segments) -> None:
        """One image, uint8 [H, W, 3], and its segments; those without a pixel are left out, as the API asks."""
        file_name = f"{name}.png"
        rgb = np.stack([prediction.map >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)
        Image.fromarray(rgb).save(self._folder / "panoptic" / file_name)
        areas = np.array([np.count_nonzero(prediction.map == segment) for segment in prediction.ids], dtype=np.int64)
        segments = [
            {"id": int(prediction.ids[index]), "category_id": PANOPTIC[prediction.labels[index]].id}
            for index in np.flatnonzero(areas)
        ]
        self._annotations.append({"image_id": image_id(name), "file_name": file_name, "segments_info": segments})
        picture = Picture(image)
        _draw(picture, prediction, areas)
        picture.save(self._overlays / file_name)

    def close(self) -> None:
        """Write the list of all images' segments."""
        text = json.dumps({"annotations": self._annotations})
        (self._folder / "panoptic.json").write_text(text, encoding="utf-8")


def _draw(picture: Picture, prediction: Segments, areas: NDArray[np.int64]) -> None:
    regions = np.full(prediction.map.shape, -1)
    for index, segment in enumerate(prediction.ids):
        regions[prediction.map == segment] = index
    names = [PANOPTIC[label].name for label in prediction.labels]
    colours = instance_colours(names)
    picture.tint(regions, colours)
    picture.names(regions, names, colours)
    pixels = np.bincount(prediction.labels, areas, minlength=len(PANOPTIC))
    present = [label for label in np.argsort(-pixels, kind="stable") if pixels[label]]
    shown = [PANOPTIC[label].name for label in present]
    picture.legend([(name, class_colour(name)) for name in shown])
    if not shown:
        picture.note(NOTHING)
