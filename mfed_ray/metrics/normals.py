"""Surface normals: the angle between predicted and true vectors."""

import numpy as np

from mfed_ray.errors import DataError
from mfed_ray.metrics.contract import Array
from mfed_ray.metrics.validation import FLOATING, check_array, check_finite, check_shape

LIMITS = (11.25, 22.5, 30.0)
"""Degrees within which a normal counts as right, as everyone reports since Fouhey et al., ICCV 2013."""

_UNIT = 2**20


class AngularError:
    """Angles over all pixels of all images; pixels whose target is the zero vector do not count.

    ``compute`` gives ``mean_error`` and ``rmse`` in degrees, and ``within_11.25``, ``within_22.5`` and ``within_30``,
    the fractions of pixels with at most that error. A predicted vector of zero length is 90 degrees off.
    """

    def __init__(self) -> None:
        # Sums in units of 2^-20: integers add up to the same total in whatever order images and halves are added.
        self._sum = 0
        self._squares = 0
        self._within = np.zeros(len(LIMITS), dtype=np.int64)
        self._pixels = 0

    def update(self, prediction: Array, target: Array) -> None:
        """Add one image: predicted vectors of any length, float [H, W, 3], and unit vectors, float [H, W, 3].

        Raises DataError for another shape or type and for a target that is not finite, ClientError for a prediction
        that is not finite or too long for its angle to be.
        """
        _check(prediction, target)
        counted = target.any(axis=2)
        error = _angle(prediction[counted].astype(np.float64), target[counted].astype(np.float64))
        check_finite("surface normals", error)
        self._sum += round(float(error.sum()) * _UNIT)
        self._squares += round(float((error**2).sum()) * _UNIT)
        self._within += [np.count_nonzero(error <= limit) for limit in LIMITS]
        self._pixels += len(error)

    def merge(self, other: "AngularError") -> None:
        """Add the counts of another instance."""
        self._sum += other._sum
        self._squares += other._squares
        self._within += other._within
        self._pixels += other._pixels

    def compute(self) -> dict[str, float]:
        """The metric's values by name; NaN where nothing was counted."""
        pixels = self._pixels or float("nan")
        mean, square = self._sum / _UNIT / pixels, self._squares / _UNIT / pixels
        within = {f"within_{limit:g}": float(count / pixels) for limit, count in zip(LIMITS, self._within, strict=True)}
        return {"mean_error": mean, "rmse": square**0.5} | within


def _check(prediction: Array, target: Array) -> None:
    check_array("surface normals", "target", target, FLOATING, 3)
    if target.shape[2] != 3 or not np.isfinite(target).all():
        found = f"of shape {target.shape}" if target.shape[2] != 3 else "not finite"
        raise DataError(f"surface normals: the target is {found}; allowed are finite vectors [H, W, 3]")
    check_array("surface normals", "prediction", prediction, FLOATING)
    check_shape("surface normals", prediction, target.shape)
    check_finite("surface normals", prediction)


def _angle(first: Array, second: Array) -> Array:
    """Degrees between vectors [N, 3]; unlike the arc cosine, exact near 0 and 180 too."""
    across = np.linalg.norm(np.cross(first, second), axis=1)
    along = (first * second).sum(axis=1)
    # atan2(0, 0) is 0: a vector without a direction would be right.
    return np.where(first.any(axis=1), np.degrees(np.arctan2(across, along)), 90.0)
