"""Coordinate-wise trimmed mean and median: a few clients, whatever they send, cannot pull a mean anywhere.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018,
arXiv 1803.01498, Definitions 1 and 2. Of n clients' values of a number, the k largest and the k smallest are left out,
and the others averaged, all alike. With at most k bad clients the result lies between values of good ones.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mfed_ray.averages import weighted_mean
from mfed_ray.messages import Params


class Trimmed(BaseModel):
    """How clients count in a trimmed mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trim: float = Field(ge=0, le=0.5)
    """beta: share of the clients that is left out at either end, rounded up. 0: a plain mean, 0.5: the median.

    Some client always stays: of two it is both.
    """


def trimmed_mean(trees: Sequence[Params], trim: float) -> Params:
    """The mean of each number without the ``trim`` largest and smallest share, float32.

    Where anybody is left out, it has the same bits in any order of the trees. Elsewhere it is the plain mean of
    ``mfed_ray.averages``, bit for bit, which is added up in the order of the trees.
    """
    cut = min(ceil(round(trim * len(trees), 9)), (len(trees) - 1) // 2)
    if cut == 0:
        return weighted_mean(trees, [1.0] * len(trees))
    kept = slice(cut, len(trees) - cut)
    ordered = {name: np.sort([tree[name] for tree in trees], axis=0)[kept] for name in trees[0]}
    return {name: values.mean(axis=0, dtype=np.float64).astype(np.float32) for name, values in ordered.items()}
