"""What a metric checks before it counts: an update that is refused leaves no trace."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mfed_ray.errors import ClientError, DataError
from mfed_ray.metrics.contract import Array

FLOATING, INTEGER, FLAG, MASK = "floating point", "integers", "bool", "integers or bool"

_KINDS = {FLOATING: "f", INTEGER: "iu", FLAG: "b", MASK: "iub"}
"""NumPy's kinds of data types by what messages call them."""


def check_array(metric: str, kind: str, values: Any, allowed: str, dimensions: int | None = None) -> None:
    """Raise DataError unless ``values``, the ``kind`` of the metric, is an array of what is ``allowed``, not empty.

    ``dimensions``: the number of its axes; None: any.
    """
    if not isinstance(values, np.ndarray):
        raise DataError(f"{metric}: the {kind} is a {type(values).__name__}; allowed is an array of {allowed}")
    if values.dtype.kind not in _KINDS[allowed]:
        raise DataError(f"{metric}: the {kind} is of {values.dtype}; allowed are {allowed}")
    if dimensions is not None and values.ndim != dimensions:
        raise DataError(f"{metric}: the {kind} has shape {values.shape}; allowed are {dimensions} axes")
    if dimensions is not None and not all(values.shape[:2]):
        raise DataError(f"{metric}: the {kind} has shape {values.shape}, which has no pixel; allowed is 1 or more")


def check_map(metric: str, prediction: Any, target: Any, allowed: str) -> None:
    """Raise DataError unless the target is a map of integers, [H, W], and the prediction one of what is ``allowed``."""
    check_array(metric, "target", target, INTEGER, 2)
    check_array(metric, "prediction", prediction, allowed)
    check_shape(metric, prediction, target.shape)


def check_shape(metric: str, prediction: Array, shape: tuple[int, ...]) -> None:
    """Raise DataError unless the prediction has the shape that the target asks for."""
    if prediction.shape != shape:
        raise DataError(f"{metric}: the prediction has shape {prediction.shape}, the target asks for {shape}")


def check_finite(metric: str, prediction: Array) -> None:
    """Raise ClientError unless every value is finite: those of a model that has diverged are not."""
    wrong = prediction.size - int((abs(prediction) < float("inf")).sum())
    if wrong:
        raise ClientError(f"{metric}: {wrong} of {prediction.size} predicted values are not finite; all must be")


def check_probabilities(metric: str, prediction: Array) -> None:
    """Raise ClientError unless every value is finite and in [0, 1]."""
    check_finite(metric, prediction)
    low, high = float(prediction.min()), float(prediction.max())
    if low < 0 or high > 1:
        raise ClientError(f"{metric}: predictions lie in [{low:g}, {high:g}]; allowed are probabilities in [0, 1]")


def check_alike(metric: str, own: Sequence[object], other: Sequence[object]) -> None:
    """Raise DataError unless two metrics that are to be merged were made with the same arguments."""
    if own != other:
        raise DataError(f"{metric}: counts by {list(other)} cannot be merged into counts by {list(own)}; must be alike")
