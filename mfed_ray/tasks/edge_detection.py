"""Edge detection: the probability that a pixel lies on a boundary between regions."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.labels import VOID
from mfed_ray.metrics.edges import EdgeDetection
from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.heads import EDGE_HEAD
from mfed_ray.predictions.label_maps import GreyMaps
from mfed_ray.tasks.constants import undecided
from mfed_ray.tasks.contract import Headline, Task


def consensus(boundaries: NDArray[Any]) -> NDArray[np.uint8]:
    """Annotators' maps uint8 [H, W, A] to one uint8 [H, W]: 1 edge, 0 none, 255 void.

    An edge where at least half of the annotators mark one, none where nobody does, void in between: a pixel that few
    mark is controversial and teaches nothing (the annotator-robust loss of RCF, Liu et al., CVPR 2017, who ask for
    more than half). Annotators whose map is void at a pixel have no vote there.
    """
    marks = (boundaries == 1).sum(axis=-1)
    voters = (boundaries != VOID).sum(axis=-1)
    edge = np.where(2 * marks >= voters, 1, VOID)
    return np.where(voters == 0, VOID, np.where(marks == 0, 0, edge)).astype(np.uint8)


EDGE_DETECTION = Task(
    name="edge_detection",
    headline=Headline("ods_f", higher_is_better=True),
    loss_weight=50.0,
    make_decoder=partial(DenseDecoder, head=EDGE_HEAD),
    make_metric=EdgeDetection,
    make_writer=GreyMaps,
    train_target=consensus,
    constant=undecided,
)
