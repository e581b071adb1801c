"""Delta_m: how much better a run is than local training, over all its tasks (Maninis et al., CVPR 2019)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

DELTA = "Delta_m [%]"
"""What tables call it."""


def gain(value: ArrayLike, base: ArrayLike, higher_is_better: ArrayLike) -> NDArray[np.float64]:
    """A task's term of Delta_m in percent: (-1)^l (M - M_base) / M_base, l = 1 where lower is better.

    Of numbers or of arrays of one shape; NaN where M_base is 0.
    """
    reached, start = np.asarray(value, np.float64), np.asarray(base, np.float64)
    sign = np.where(higher_is_better, 1.0, -1.0)
    return np.asarray(100.0 * sign * (reached - start) / np.where(start == 0, np.nan, start), np.float64)


def delta_m(gains: Sequence[float] | NDArray[np.float64]) -> float:
    """The mean over tasks of their ``gain``.

    NaN where that of one task is: a mean over the other tasks is another quantity.
    """
    return float(np.mean(gains))
