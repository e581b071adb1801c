"""The training target of every task that gives each pixel a class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Labels uint8 [H, W] as int64 [H, W], what cross-entropy takes."""
    return labels.astype(np.int64)
