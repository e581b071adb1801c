"""Boxes, areas and keypoints that contradict the mask of their annotation: named by ``check``, refused by nobody."""

from collections.abc import Container, Iterator

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import mask_box
from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table, positive

BOX_SLACK = 0.2
"""Share of a box's longer side by which it may be off its mask, beside 2 pixels. COCO's own are off by up to 0.12."""
AREA_FACTOR = 2.0
"""Factor by which an area may be off its mask's pixels, or by 10 pixels. COCO's own are off by up to 1.51."""
KEYPOINT_REACH = 1.0
"""How far out of its box a keypoint may be, in longer sides of the box. COCO's own are out by up to 0.42."""


def disagreements(table: Table, position: int, masks: NDArray[np.uint8], named: Container[str]) -> Iterator[Problem]:
    """Of an image's rows with ``masks`` [N, H, W]: boxes off their mask, areas, keypoints far from their box.

    Rows without a mask or extent are left out, as are those in ``named``: something else is wrong with them.
    """
    span = table.span(position)
    rows = table.of_image(position)
    for index in np.flatnonzero(positive(rows)):
        row, name = rows[index], table.name_row(position, rows["id"][index])
        if name in named:
            continue
        if masks[index].any():
            yield from _off_mask(table, row, name, masks[index])
        if table.task == "keypoint_detection":
            yield from _far_keypoints(table, row, name, table.keypoints[span][index])


def _off_mask(table: Table, row: np.void, name: str, mask: NDArray[np.uint8]) -> Iterator[Problem]:
    found = mask_box(mask)
    if abs(found - row["box"]).max() > 2 + BOX_SLACK * _longer_side(row):
        message = f"box {_told(row['box'])} found, its mask reaches from {_told(found)} (x1, y1, x2, y2)"
        yield Problem("box off its mask", table.path, name, message)
    pixels, area = int(np.count_nonzero(mask)), float(row["area"])
    low, high = min(pixels, area), max(pixels, area)
    # of panoptic segments every pixel is compared (``panoptic.wrong_areas``)
    if table.task != "panoptic_segmentation" and (low <= 0 or (high > AREA_FACTOR * low and high - low > 10)):
        yield Problem("area disagrees", table.path, name, f"area {area:g} found, its mask has {pixels} pixels")


def _far_keypoints(table: Table, row: np.void, name: str, keypoints: NDArray[np.float32]) -> Iterator[Problem]:
    x1, y1, x2, y2 = row["box"]
    x, y, visibility = keypoints.T
    out = np.maximum.reduce([x1 - x, x - x2, y1 - y, y - y2])
    far, labelled = out > KEYPOINT_REACH * _longer_side(row), visibility > 0
    far = np.flatnonzero(far & labelled) if far[labelled].all() else np.flatnonzero(far & (visibility == 2))
    if far.size:
        told = ", ".join(f"{KEYPOINTS[one]} [{x[one]:g}, {y[one]:g}]" for one in far)
        yield Problem("keypoint far from box", table.path, name, f"{told} far out of its box {_told(row['box'])}")


def _longer_side(row: np.void) -> float:
    x1, y1, x2, y2 = row["box"]
    return float(max(x2 - x1, y2 - y1))


def _told(box: NDArray[np.float32]) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"
