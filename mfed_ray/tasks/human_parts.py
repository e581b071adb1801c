"""Human parts: one of six body parts, or background, for every pixel of an image with people."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.labels import PART_CLASSES
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.heads import class_head
from mfed_ray.predictions.label_maps import ClassMaps
from mfed_ray.tasks.contract import Headline, Task


def train_target(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Labels uint8 [H, W] as int64 [H, W], what cross-entropy takes."""
    return labels.astype(np.int64)


HUMAN_PARTS = Task(
    name="human_parts",
    headline=Headline("miou", higher_is_better=True),
    loss_weight=2.0,
    make_decoder=partial(DenseDecoder, head=class_head(len(PART_CLASSES))),
    make_metric=partial(MeanIoU, len(PART_CLASSES)),
    make_writer=partial(ClassMaps, names=PART_CLASSES),
    train_target=train_target,
)
