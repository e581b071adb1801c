"""One annotation file in columns."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW = np.dtype([("id", "i8"), ("label", "u1"), ("box", "f4", 4), ("area", "f4"), ("crowd", "?")])
"""An object, a region of stuff or a panoptic segment; ``box``: x1 y1 x2 y2."""


@dataclass(frozen=True)
class Table:
    """The I images that the file ``path`` lists, by rising id, and their N annotations, image by image.

    ``ids``: int64 [I]; ``listed``: int64 [I], where the file's first, second ... image stands here; ``sizes``: int32
    [I, 2], height and width; ``names``: text [I], file names; ``pngs``: text [I], file names of panoptic PNGs, "" of
    other tasks; ``starts``: int64 [I + 1], image i has the rows from ``starts[i]`` to below ``starts[i + 1]``;
    ``rows``: ROW [N]; ``keypoints``: float32 [N, 17, 3], [0, 17, 3] of other tasks; ``text``: uint8, the JSON of all
    masks, of which row n has that from ``text_starts[n]`` to below ``text_starts[n + 1]``; ``text_starts``: int64
    [N + 1].
    """

    path: Path
    task: str
    ids: NDArray[np.int64]
    listed: NDArray[np.int64]
    sizes: NDArray[np.int32]
    names: NDArray[np.str_]
    pngs: NDArray[np.str_]
    starts: NDArray[np.int64]
    rows: NDArray[np.void]
    keypoints: NDArray[np.float32]
    text: NDArray[np.uint8]
    text_starts: NDArray[np.int64]

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The columns by name."""
        return {name: getattr(self, name) for name in COLUMNS}

    def find(self, image: int) -> int | None:
        """Where the image of that id stands, None if the file does not list it."""
        found = int(self.ids.searchsorted(image))
        return found if found < len(self.ids) and self.ids[found] == image else None

    def size(self, position: int) -> tuple[int, int]:
        """(H, W) of an image."""
        height, width = self.sizes[position]
        return int(height), int(width)

    def span(self, position: int) -> slice:
        """Which rows are an image's."""
        return slice(int(self.starts[position]), int(self.starts[position + 1]))

    def of_image(self, position: int) -> NDArray[np.void]:
        """An image's rows."""
        return self.rows[self.span(position)]

    def name(self, position: int) -> str:
        """How messages call an image."""
        return f"image {self.ids[position]}"

    def name_row(self, position: int, number: int) -> str:
        """How messages call the annotation ``number`` of an image."""
        noun = "segment" if self.task == "panoptic_segmentation" else "annotation"
        return f"{noun} {number} of {self.name(position)}"

    def texts(self, position: int) -> list[bytes]:
        """The JSON of the masks of an image's rows."""
        rows = self.span(position)
        bounds = self.text_starts[rows.start : rows.stop + 1].tolist()
        return [self.text[start:stop].tobytes() for start, stop in pairwise(bounds)]


COLUMNS = [field.name for field in fields(Table) if field.name not in ("path", "task")]


def positive(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """bool [N]: which boxes have a width and a height above 0."""
    x1, y1, x2, y2 = rows["box"].T
    return np.asarray((x2 > x1) & (y2 > y1))
