"""Cross-attention between the updates of decoders that have the same layers.

Lu et al.: FedHCA2, CVPR 2024, arXiv 2311.13250. For each tensor, of d numbers, with the N updates Delta as rows:

    A_i = sum_j p_ij Delta_j,   p_ij = softmax_j <Delta_i, Delta_j> / sqrt(d)
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.conflict_averse import gram
from mfed_ray.messages import Update
from mfed_ray.params import decoders_of

Rows = NDArray[np.float64]
Values = dict[str, NDArray[np.float32]]
Member = tuple[Update, str]
"""A client's update and a parameter of it, or its decoder as ``decoders.<task>.``."""


def attend(updates: Sequence[Update], rows_of: Callable[[Sequence[Member]], Rows]) -> dict[str, Values]:
    """A by client and parameter; ``rows_of`` gives the Delta, [N, d], of a parameter of each member."""
    steps: dict[str, Values] = {update.client: {} for update in updates}
    for members in _alike(updates):
        first, prefix = members[0]
        for name in [name for name in first.params if name.startswith(prefix)]:
            named = [(update, own + name.removeprefix(prefix)) for update, own in members]
            rows = rows_of(named)
            for (update, own), mix in zip(named, _attention(rows), strict=True):
                steps[update.client][own] = mixed(mix, rows).reshape(update.params[own].shape)
    return steps


def mixed(mix: Rows, rows: Rows) -> NDArray[np.float32]:
    """sum_j mix_j rows_j."""
    total: Rows = np.einsum("j,jd->d", mix, rows)
    return total.astype(np.float32)


def _attention(rows: Rows) -> Rows:
    scores = gram(rows) / np.sqrt(rows.shape[1])
    attention: Rows = np.exp(scores - scores.max(axis=1, keepdims=True))
    attention /= attention.sum(axis=1, keepdims=True)
    return attention


def _alike(updates: Sequence[Update]) -> list[list[Member]]:
    """Decoders, as (client's update, ``decoders.<task>.``), with those of the same names and shapes."""
    found: dict[frozenset[tuple[str, tuple[int, ...]]], list[Member]] = {}
    for update in updates:
        for task in dict.fromkeys(name.split(".")[1] for name in decoders_of(update.params)):
            prefix = f"decoders.{task}."
            shapes = frozenset(
                (name.removeprefix(prefix), value.shape)
                for name, value in update.params.items()
                if name.startswith(prefix)
            )
            found.setdefault(shapes, []).append((update, prefix))
    return list(found.values())
