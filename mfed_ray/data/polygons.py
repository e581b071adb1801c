"""Masks as COCO's files spell them: outlines of pixels, and uncompressed runs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # x, y of the headings east, south, west, north
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))  # of a pixel, where its upper, right, lower and left edge start
_CROSS, _SQUARE = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


def polygons(mask: NDArray[Any]) -> list[list[int]]:
    """Outlines x1 y1 x2 y2 ... along the edges of the pixels of ``mask`` [H, W], together exactly the mask.

    ``pycocotools`` rasterises their union to the mask's pixels and no other. They do not overlap; a part of the mask
    with holes is cut into parts without.
    """
    return [_outline(part) for part in _parts(np.asarray(mask, bool))]


def runs(mask: NDArray[Any]) -> list[int]:
    """COCO's uncompressed RLE of ``mask`` [H, W]: lengths of the runs of 0, 1, 0, ... down the columns."""
    flat = np.asarray(mask, bool).ravel(order="F")
    bounds = np.flatnonzero(np.diff(flat, prepend=False))
    lengths: list[int] = np.diff(bounds, prepend=0, append=flat.size).tolist()
    return lengths


def _parts(mask: Mask) -> Iterator[Mask]:
    """Connected parts without holes, each as large as ``mask``; pixels that touch at a corner are not connected."""
    labels, count = ndimage.label(mask, _CROSS)
    for number in range(1, count + 1):
        part = labels == number
        holes = ndimage.binary_fill_holes(part, _SQUARE) & ~part
        if not holes.any():
            yield part
            continue
        cut = int(np.nonzero(holes)[1][0]) + 1
        left, right = part.copy(), part
        left[:, cut:], right[:, :cut] = False, False
        yield from _parts(left)
        yield from _parts(right)


def _outline(part: Mask) -> list[int]:
    """The corners of a connected part without holes, clockwise from its uppermost row's left end."""
    edges = _edges(part)
    y, x = (int(axis[0]) for axis in np.nonzero(part))
    start, heading = (x, y), 0
    corners = [x, y]
    while True:
        x, y = x + _STEPS[heading][0], y + _STEPS[heading][1]
        if (x, y) == start:
            return corners
        # the sharpest turn to the right: where pixels touch at a corner, stay with the one walked around
        following = next(turn % 4 for turn in (heading + 1, heading, heading - 1) if (x, y, turn % 4) in edges)
        if following != heading:
            corners += (x, y)
        heading = following


def _edges(part: Mask) -> set[tuple[int, int, int]]:
    """Edges between the part and what is around it: x, y of the start and heading, the part on the right."""
    inside = np.pad(part, 1)
    edges: set[tuple[int, int, int]] = set()
    for heading, (right, down) in enumerate(_CORNERS):
        x, y = _STEPS[heading - 1]  # towards the pixel on the left of the edge
        rows, columns = np.nonzero(inside & ~np.roll(inside, (-y, -x), (0, 1)))
        starts = zip((columns + right - 1).tolist(), (rows + down - 1).tolist(), strict=True)
        edges.update((*start, heading) for start in starts)
    return edges
