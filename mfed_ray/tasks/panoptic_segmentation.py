"""Panoptic segmentation: every pixel belongs to one object of 80 thing classes or to one of 53 stuff classes."""

import numpy as np
from numpy.typing import NDArray

from mfed_ray.annotations import Segments, mask_box
from mfed_ray.coco_categories import THINGS
from mfed_ray.labels import VOID
from mfed_ray.metrics.panoptic_quality import PanopticQuality
from mfed_ray.models.panoptic import PanopticFPN
from mfed_ray.predictions.coco_panoptic import CocoPanoptic
from mfed_ray.tasks.constants import one_segment
from mfed_ray.tasks.contract import Headline, Task
from mfed_ray.tasks.objects import SMALLEST_SIDE, Arrays


def train_target(segments: Segments) -> Arrays:
    """What Panoptic FPN learns from, all of it from the panoptic annotation alone.

    ``boxes``, ``labels`` (1..80), ``masks`` of the thing segments that are no crowd: what is seen of each object;
    ``semantic``: int64 [H, W], 0 things, 1..53 stuff classes, 255 void.
    """
    is_thing = segments.labels < len(THINGS)
    crowd = np.zeros(len(segments.ids), np.bool_) if segments.crowd is None else segments.crowd
    boxes, labels, masks = [], [], []
    for number in np.flatnonzero(is_thing & ~crowd):
        mask = segments.map == segments.ids[number]
        box = mask_box(mask)
        if (box[2:] - box[:2]).min() >= SMALLEST_SIDE:
            boxes.append(box)
            labels.append(segments.labels[number] + 1)
            masks.append(mask)
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "masks": np.array(masks, np.uint8).reshape(-1, *segments.map.shape),
        "semantic": _semantic(segments, is_thing),
    }


def _semantic(segments: Segments, is_thing: NDArray[np.bool_]) -> NDArray[np.int64]:
    order = np.argsort(segments.ids)
    values = np.where(is_thing, 0, segments.labels - len(THINGS) + 1)[order]
    ids = np.concatenate([[0], segments.ids[order]])  # 0, void, is the least of all
    return np.concatenate([[VOID], values])[np.searchsorted(ids, segments.map)]


PANOPTIC_SEGMENTATION = Task(
    name="panoptic_segmentation",
    headline=Headline("pq", higher_is_better=True),
    loss_weight=1.0,
    make_decoder=PanopticFPN,
    make_metric=PanopticQuality,
    make_writer=CocoPanoptic,
    train_target=train_target,
    constant=one_segment,
)
