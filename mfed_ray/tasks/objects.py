"""Which annotated objects a detector learns from."""

from typing import Any

from numpy.typing import NDArray

from mfed_ray.annotations import Objects

Arrays = dict[str, NDArray[Any]]

SMALLEST_SIDE = 1.0
"""Pixels: an object that is narrower after scaling has no pixel of its own."""


def learnable(objects: Objects) -> Arrays:
    """The objects to learn from: those that are no crowd and at least ``SMALLEST_SIDE`` wide and high.

    Returns arrays of N objects: ``boxes`` float32 [N, 4], ``labels`` int64 [N] and, where the objects have them,
    ``masks`` uint8 [N, H, W] and ``keypoints`` float32 [N, 17, 3]. Torchvision's and Detectron2's recipes drop crowds
    and boxes without extent too; real COCO has both.
    """
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    seen = sides.min(axis=1) >= SMALLEST_SIDE
    if objects.masks is not None:
        seen &= objects.masks.any(axis=(1, 2))
    kept = seen & ~objects.crowd
    arrays: dict[str, NDArray[Any] | None] = {
        "boxes": objects.boxes,
        "labels": objects.labels,
        "masks": objects.masks,
        "keypoints": objects.keypoints,
    }
    return {name: array[kept] for name, array in arrays.items() if array is not None}
