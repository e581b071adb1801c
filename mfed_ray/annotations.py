"""What is known, or predicted, of an image beyond a map of pixels: its objects, its panoptic segments.

Coordinates are continuous: the pixel of row r and column c covers [c, c + 1) x [r, r + 1). A COCO file's boxes are in
these already; its keypoints are indices of pixels, half a pixel is added to them when read and taken off when written.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Objects:
    """The N annotated objects of an image of ``size`` = (H, W): a target.

    ``boxes``: float32 [N, 4], x1 y1 x2 y2; ``labels``: int64 [N], 1.. (``mfed_ray.coco_categories``); ``areas``:
    float32 [N], the annotated areas in pixels, which COCO's size ranges and keypoint similarity go by; ``crowd``: bool
    [N], regions of many objects, which are neither trained on nor counted as missed.
    ``masks``: uint8 [N, H, W], 0 or 1; ``keypoints``: float32 [N, 17, 3], x, y and visibility (0 unlabelled, 1 hidden,
    2 visible); each None where the task has none. ``image``: the image's number in its data set, by which COCOeval
    orders images.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]
    masks: NDArray[np.uint8] | None = None
    keypoints: NDArray[np.float32] | None = None
    image: int = 0


@dataclass(frozen=True)
class Detections:
    """The N predicted objects of an image of ``size`` = (H, W), best score first.

    ``scores``: float32 [N], in [0, 1]; the rest as in ``Objects``. A predicted keypoint's visibility is 1.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.uint8] | None = None
    keypoints: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Segments:
    """The panoptic segments of an image: a target, or a prediction.

    ``map``: int32 [H, W], the id of each pixel's segment, 0 void; ``ids``: int64 [S], each once, all of the map's
    among them; ``labels``: int64 [S], 0..132, the index in ``mfed_ray.coco_categories.PANOPTIC``; ``crowd``:
    bool [S], None of a prediction.
    """

    map: NDArray[np.int32]
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_] | None = None


Target = Any
"""What a data set knows of an image for one task: an array [H, W, ...], ``Objects`` or ``Segments``."""

Prediction = Any
"""What a model says of an image for one task, in its own height and width: an array, ``Detections`` or ``Segments``."""


def mask_box(mask: NDArray[Any]) -> NDArray[np.float32]:
    """The tight box x1 y1 x2 y2 around a mask [H, W], zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def corner_and_size(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Boxes x1 y1 x2 y2, [N, 4], as a COCO file has them: x, y, width, height."""
    exact = boxes.astype(np.float64)
    return np.hstack([exact[:, :2], exact[:, 2:] - exact[:, :2]])


def pixel_indices(keypoints: NDArray[np.float32]) -> NDArray[np.float64]:
    """Keypoints, [N, 17, 3], as a COCO file has them: the pixel of index i has its centre at i + 0.5."""
    return keypoints.astype(np.float64) - (0.5, 0.5, 0)
