"""How much two tasks agree: cosine of updates, or linear CKA of features."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mfed_ray.messages import Params
from mfed_ray.params import cosine

Correlations = dict[tuple[str, str], float]


def update_cosine(updates: Mapping[str, Params]) -> Correlations:
    """Cosine of the encoder updates of each ordered pair of groups, in [-1, 1]; 1 on the diagonal."""
    return _symmetric(list(updates), lambda a, b: cosine(updates[a], updates[b]))


def feature_cka(features: Mapping[str, NDArray[np.float32]]) -> Correlations:
    """Linear CKA of the features of each ordered pair of groups, in [0, 1]; 1 on the diagonal."""
    return _symmetric(list(features), lambda a, b: linear_cka(features[a], features[b]))


def linear_cka(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) of column-centred features [rows, channels]; 0 where one is constant.

    Kornblith, Norouzi, Lee, Hinton: Similarity of Neural Network Representations Revisited, ICML 2019, equation 5.
    """
    # torch's products, not NumPy's: their number of threads is the run's own, and threads can change bits
    x64, y64 = (torch.tensor(z, dtype=torch.float64) for z in (x, y))
    x64, y64 = x64 - x64.mean(dim=0), y64 - y64.mean(dim=0)
    cross, own_x, own_y = (float((a.T @ b).norm()) for a, b in ((y64, x64), (x64, x64), (y64, y64)))
    return cross**2 / (own_x * own_y) if own_x * own_y > 0.0 else 0.0


def _symmetric(groups: list[str], measure: Callable[[str, str], float]) -> Correlations:
    found: Correlations = {(group, group): 1.0 for group in groups}
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            found[a, b] = found[b, a] = measure(a, b)
    return found
