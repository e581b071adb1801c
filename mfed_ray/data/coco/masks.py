"""Masks of a COCO annotation file: polygons, compressed and uncompressed run lengths."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table
from mfed_ray.errors import DataError


class _Runs(Struct, gc=False):
    """Run lengths of 0 and 1 in turn, down the columns; ``size``: height and width."""

    size: tuple[int, int]
    counts: str | list[Annotated[int, Meta(ge=0, le=2**31 - 1)]]


_DECODER = msgspec.json.Decoder(list[list[float]] | _Runs)


def decode_masks(table: Table, position: int) -> tuple[NDArray[np.uint8], list[Problem]]:
    """The masks of an image's N rows, uint8 [N, H, W], 0 or 1, and a problem for each broken one, which is 0."""
    rows, size = table.of_image(position), table.size(position)
    masks, problems = np.zeros((len(rows), *size), np.uint8), []
    for row, text in enumerate(table.texts(position)):
        try:
            masks[row] = decode_mask(text, size)
        except DataError as error:
            name = table.name_row(position, rows["id"][row])
            problems.append(Problem("broken mask", table.path, name, str(error)))
    return masks, problems


def decode_mask(text: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask, uint8 [H, W] of ``size``, of the JSON of a ``segmentation``.

    Raises DataError, which names no file, if it is of another form, a polygon has fewer than 3 points, or run lengths
    are broken or of another size.
    """
    try:
        found = _DECODER.decode(text)
    except ValueError as error:
        raise DataError(f"segmentation is neither polygons nor run lengths ({error})") from error
    return _of_polygons(found, size) if isinstance(found, list) else _of_runs(found, size)


def _of_polygons(polygons: list[list[float]], size: tuple[int, int]) -> NDArray[np.uint8]:
    if not polygons:
        raise DataError("segmentation has no polygon, it must have at least one")
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise DataError(f"polygon of {len(polygon)} numbers found, must be x and y of 3 points or more")
        # pycocotools walks every pixel of an edge, in 32-bit numbers
        if max(map(abs, polygon)) > 4 * max(size):
            raise DataError(f"polygon reaches {max(map(abs, polygon)):g}, far out of its image")
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return _of_runs(_Runs(size, runs["counts"].decode()), size)


def _of_runs(runs: _Runs, size: tuple[int, int]) -> NDArray[np.uint8]:
    if runs.size != size:
        raise DataError(f"run lengths are of {list(runs.size)} pixels (height, width), their image of {list(size)}")
    counts = _counts(runs.counts) if isinstance(runs.counts, str) else np.array(runs.counts, np.int64)
    if counts.size == 0 or counts.min() < 0 or counts.sum() != size[0] * size[1]:
        raise DataError(
            f"run lengths add up to {counts.sum()}, must be 0 or more each and {size[0] * size[1]} together"
        )
    values = (np.arange(len(counts)) % 2).astype(np.uint8)
    return np.repeat(values, counts).reshape(size[::-1]).T


def _counts(text: str) -> NDArray[np.int64]:
    """Run lengths of a COCO RLE string, int64.

    As pycocotools' ``rleFrString``: a number is base 32, lowest digit first, its characters are 48 + digit, 32 more if
    another follows; 16 in the last one is the sign. From the fourth on, it is what the run is longer than the run
    before the last. pycocotools does not notice broken strings and reads wrong numbers.
    """
    digits = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    last = digits & 32 == 0
    if not text or digits.min() < 0 or digits.max() > 63 or not last[-1]:
        raise DataError("run lengths are a broken string")
    stops = np.flatnonzero(last) + 1
    lengths = np.diff(stops, prepend=0)
    if lengths.max() > 7:  # 35 bits, more than any image has pixels
        raise DataError("run lengths are a broken string")
    starts = stops - lengths
    exponents = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    counts = np.add.reduceat((digits & 31) << exponents, starts)
    counts -= np.where(digits[last] & 16, 1 << (5 * lengths), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts
