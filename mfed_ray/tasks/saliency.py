"""Saliency: the probability that a pixel belongs to what draws the eye."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.metrics.saliency import Saliency
from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.heads import SALIENCY_HEAD
from mfed_ray.predictions.label_maps import GreyMaps
from mfed_ray.tasks.constants import undecided
from mfed_ray.tasks.contract import Headline, Task


def train_target(salient: NDArray[Any]) -> NDArray[np.uint8]:
    """The map uint8 [H, W], 0 or 1, 255 void, as it is."""
    return salient.astype(np.uint8, copy=False)


SALIENCY = Task(
    name="saliency",
    headline=Headline("max_miou", higher_is_better=True),
    loss_weight=5.0,
    make_decoder=partial(DenseDecoder, head=SALIENCY_HEAD),
    make_metric=Saliency,
    make_writer=GreyMaps,
    train_target=train_target,
    constant=undecided,
)
