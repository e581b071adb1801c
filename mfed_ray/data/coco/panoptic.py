"""Panoptic segments: a PNG of their ids, and what the annotation file says of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import Segments
from mfed_ray.data.coco.images import wrong_size
from mfed_ray.data.coco.layout import is_missing
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table
from mfed_ray.data.files import read_image
from mfed_ray.errors import DataError


def read_segments(table: Table, position: int) -> tuple[Segments, list[Problem]]:
    """An image's segments, in the file's order, and what is wrong with them: the PNG, its ids."""
    rows = table.of_image(position)
    ids, problems = _read_ids(png_file(table, position), table, position)
    labels = rows["label"].astype(np.int64)
    return Segments(ids, rows["id"].astype(np.int64), labels, rows["crowd"].astype(np.bool_)), problems


def png_file(table: Table, position: int) -> Path:
    """Where an image's PNG is: in the folder that is called like the annotation file."""
    return table.path.with_suffix("") / str(table.pngs[position])


def count_pixels(ids: NDArray[np.int32]) -> dict[int, int]:
    """The pixels of each id of a map, by rising id. Counted by runs: many times as fast as by pixel."""
    flat = ids.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    found, which = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(which, weights=np.diff(starts, append=flat.size))
    return dict(zip(found.tolist(), pixels.astype(int).tolist(), strict=True))


def _read_ids(path: Path, table: Table, position: int) -> tuple[NDArray[np.int32], list[Problem]]:
    """int32 [H, W]: R + 256 G + 65536 B; all void if there is no such PNG."""
    void = np.zeros(table.size(position), np.int32)
    try:
        png = read_image(path).astype(np.int32)
    except DataError as error:
        kind = "missing PNG" if is_missing(path) else "unreadable file"
        return void, [Problem(kind, table.path, table.name(position), str(error))]
    if problems := wrong_size(path, table, position, png.shape[:2]):
        return void, problems
    ids = png[:, :, 0] + (png[:, :, 1] << 8) + (png[:, :, 2] << 16)
    return ids, list(_compare(path, table, position, ids))


def _compare(path: Path, table: Table, position: int, ids: NDArray[np.int32]) -> Iterator[Problem]:
    """Ids that only the PNG or only the annotation file has, or the latter twice; 0 is void, not an id."""
    said, found = table.of_image(position)["id"].tolist(), count_pixels(ids).keys() - {0}
    wrong = {
        f"has ids that {table.path.name} has not": sorted(found - set(said)),
        f"lacks ids that {table.path.name} has": sorted(set(said) - found),
        f"has ids that {table.path.name} has more than once": sorted({one for one in said if said.count(one) > 1}),
    }
    for message, numbers in wrong.items():
        if numbers:
            listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            yield Problem("panoptic ids disagree", path, table.name(position), f"{message}: {listed}")


def wrong_areas(table: Table, position: int, ids: NDArray[np.int32]) -> Iterator[Problem]:
    """Segments that the map has, but not in as many pixels as the annotation file says."""
    pixels = count_pixels(ids)
    for row in table.of_image(position):
        number, area = int(row["id"]), float(row["area"])
        if number in pixels and pixels[number] != area:
            message = f"area {area:g} found, its PNG has {pixels[number]} pixels of it"
            yield Problem("panoptic area disagrees", table.path, table.name_row(position, number), message)
