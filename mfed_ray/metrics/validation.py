"""What a metric checks before it counts."""

from mfed_ray.errors import ClientError, DataError
from mfed_ray.metrics.contract import Array


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
