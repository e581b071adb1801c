"""Objects under the transforms of their image: boxes, masks and keypoints stay aligned with it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import Objects, mask_box
from mfed_ray.coco_categories import MIRRORED_KEYPOINTS
from mfed_ray.data.resampling import nearest, window

Masks = NDArray[np.uint8]


def resize_objects(objects: Objects, size: tuple[int, int]) -> Objects:
    """The objects of the image resized to ``size`` = (H, W)."""
    down, across = (new / old for new, old in zip(size, objects.size, strict=True))
    scale = np.array([across, down], np.float32)
    keypoints = objects.keypoints
    return replace(
        objects,
        size=size,
        boxes=objects.boxes * np.tile(scale, 2),
        areas=objects.areas * np.float32(across * down),
        masks=_each(objects.masks, size, lambda mask: nearest(mask, size)),
        keypoints=None
        if keypoints is None
        else np.concatenate([keypoints[..., :2] * scale, keypoints[..., 2:]], axis=-1),
    )


def flip_objects(objects: Objects) -> Objects:
    """The objects of the mirrored image; a left keypoint becomes a right one."""
    width = np.float32(objects.size[1])
    x1, y1, x2, y2 = objects.boxes.T
    boxes = np.stack([width - x2, y1, width - x1, y2], axis=1)
    keypoints = objects.keypoints
    if keypoints is not None:
        keypoints = keypoints[:, MIRRORED_KEYPOINTS].copy()
        labelled = keypoints[..., 2] > 0
        keypoints[labelled, 0] = width - keypoints[labelled, 0]
    return replace(objects, boxes=boxes, masks=_each(objects.masks, objects.size, np.fliplr), keypoints=keypoints)


def crop_objects(objects: Objects, corner: tuple[int, int], size: int) -> Objects:
    """The objects of the square of ``size`` pixels at ``corner`` = (row, column); those outside it are left out.

    A box is cut at the square's edges; of an object with a mask that is cut, the box becomes that of what is seen.
    Keypoints outside the square are unlabelled. Areas shrink with what is cut away.
    """
    down, across = corner
    moved = objects.boxes - np.array([across, down, across, down], np.float32)
    boxes = moved.clip(0, size)
    masks = _each(objects.masks, (size, size), lambda mask: window(mask, corner, size, 0))
    is_cut = (boxes != moved).any(axis=1)
    if masks is not None:
        for index in np.flatnonzero(is_cut):
            boxes[index] = mask_box(masks[index])
    left = _area(boxes) > 0
    share = np.divide(_area(boxes), _area(moved), out=np.ones(len(boxes), np.float32), where=is_cut & left)
    keypoints = None if objects.keypoints is None else _crop_keypoints(objects.keypoints, corner, size)[left]
    return Objects(
        (size, size),
        boxes[left],
        objects.labels[left],
        (objects.areas * share)[left],
        objects.crowd[left],
        None if masks is None else masks[left],
        keypoints,
        objects.image,
    )


def _each(masks: Masks | None, size: tuple[int, int], change: Callable[[Masks], Masks]) -> Masks | None:
    """Every mask changed into one of ``size``."""
    if masks is None:
        return None
    changed = np.zeros((len(masks), *size), np.uint8)
    for index, mask in enumerate(masks):
        changed[index] = change(mask)
    return changed


def _crop_keypoints(keypoints: NDArray[np.float32], corner: tuple[int, int], size: int) -> NDArray[np.float32]:
    moved = keypoints - np.array([corner[1], corner[0], 0], np.float32)
    inside = ((moved[..., :2] >= 0) & (moved[..., :2] < size)).all(axis=-1) & (keypoints[..., 2] > 0)
    return np.where(inside[..., None], moved, np.float32(0))


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
