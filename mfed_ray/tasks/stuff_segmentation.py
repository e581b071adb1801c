"""Stuff segmentation: one of COCO's 91 stuff classes, or "other" (things), for every pixel."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.coco_categories import STUFF
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.models.semantic_fpn import SemanticFPN
from mfed_ray.predictions.label_maps import StuffMaps
from mfed_ray.tasks.contract import Headline, Task


def train_target(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Labels uint8 [H, W] as int64 [H, W], what cross-entropy takes."""
    return labels.astype(np.int64)


STUFF_SEGMENTATION = Task(
    name="stuff_segmentation",
    headline=Headline("miou", higher_is_better=True),
    loss_weight=1.0,
    make_decoder=partial(SemanticFPN, classes=len(STUFF)),
    make_metric=partial(MeanIoU, len(STUFF), over="target"),
    make_writer=StuffMaps,
    train_target=train_target,
    pyramid=True,
)
