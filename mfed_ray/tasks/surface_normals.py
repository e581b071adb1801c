"""Surface normals: the unit vector that stands on the visible surface, for every pixel."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.metrics.normals import AngularError
from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.heads import NORMALS_HEAD
from mfed_ray.predictions.label_maps import NormalMaps
from mfed_ray.tasks.constants import mean_direction
from mfed_ray.tasks.contract import Headline, Task


def train_target(normals: NDArray[Any]) -> NDArray[np.float32]:
    """Unit vectors float32 [H, W, 3], the zero vector void, as they are."""
    return normals.astype(np.float32, copy=False)


SURFACE_NORMALS = Task(
    name="surface_normals",
    headline=Headline("mean_error", higher_is_better=False),
    loss_weight=10.0,
    make_decoder=partial(DenseDecoder, head=NORMALS_HEAD),
    make_metric=AngularError,
    make_writer=NormalMaps,
    train_target=train_target,
    constant=mean_direction,
)
