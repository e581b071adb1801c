import math

import numpy as np
import pytest

from mfed_ray.errors import ClientError, DataError
from mfed_ray.metrics.normals import AngularError

UP = (0.0, 0.0, 1.0)
VOID = (0.0, 0.0, 0.0)


def tilted(degrees: float, length: float = 1.0) -> tuple[float, float, float]:
    return length * math.sin(math.radians(degrees)), 0.0, length * math.cos(math.radians(degrees))


def test_values_worked_by_hand() -> None:
    metric = AngularError()
    metric.update(
        np.array([[tilted(10, 3.0), tilted(20, 0.1), tilted(90)]]), np.array([[UP, UP, VOID]], dtype=np.float32)
    )
    metric.update(np.array([[tilted(60)]]), np.array([[UP]]))
    values = metric.compute()
    assert values["mean_error"] == pytest.approx((10 + 20 + 60) / 3, abs=1e-5)
    assert values["rmse"] == pytest.approx(math.sqrt((100 + 400 + 3600) / 3), abs=1e-5)
    assert values["within_11.25"] == pytest.approx(1 / 3)
    assert values["within_22.5"] == pytest.approx(2 / 3)
    assert values["within_30"] == pytest.approx(2 / 3)


def test_small_and_opposite_angles_are_exact() -> None:
    for degrees in (0.0, 1e-4, 179.9999, 180.0):
        metric = AngularError()
        metric.update(np.array([[tilted(degrees)]]), np.array([[UP]]))
        assert metric.compute()["mean_error"] == pytest.approx(degrees, abs=2e-6)


def test_a_vector_without_direction_is_ninety_degrees_off() -> None:
    metric = AngularError()
    metric.update(np.array([[VOID]]), np.array([[UP]]))
    assert metric.compute()["mean_error"] == 90.0


def test_nothing_counted_is_nan() -> None:
    metric = AngularError()
    metric.update(np.array([[UP]]), np.array([[VOID]]))
    assert list(metric.compute()) == ["mean_error", "rmse", "within_11.25", "within_22.5", "within_30"]
    assert all(math.isnan(value) for value in metric.compute().values())


def test_merged_halves_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    whole, halves = AngularError(), [AngularError(), AngularError()]
    for index in range(7):
        prediction, target = rng.normal(size=(2, 9, 8, 3))
        target /= np.linalg.norm(target, axis=2, keepdims=True)
        whole.update(prediction, target)
        halves[index % 2].update(prediction, target)
    halves[1].merge(halves[0])
    assert halves[1].compute() == whole.compute()


def test_a_prediction_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"surface normals: the prediction has shape \(3, 2, 2\), the target asks for"):
        AngularError().update(np.zeros((3, 2, 2)), np.zeros((2, 2, 3)))


def test_predictions_of_a_diverged_model_are_refused() -> None:
    with pytest.raises(ClientError, match="surface normals: 1 of 3 predicted values are not finite; all must be"):
        AngularError().update(np.array([[[np.nan, 0.0, 1.0]]]), np.array([[UP]]))


def test_targets_that_are_not_finite_or_no_vectors_are_refused() -> None:
    with pytest.raises(DataError, match="surface normals: the target is not finite; allowed are finite vectors"):
        AngularError().update(np.array([[UP]]), np.array([[(math.nan, 0.0, 1.0)]]))
    with pytest.raises(DataError, match=r"surface normals: the target is of shape \(1, 1, 2\); allowed are finite"):
        AngularError().update(np.zeros((1, 1, 2)), np.zeros((1, 1, 2)))
    with pytest.raises(DataError, match="surface normals: the prediction is of int64; allowed are floating point"):
        AngularError().update(np.ones((1, 1, 3), dtype=np.int64), np.array([[UP]]))


def test_vectors_too_long_for_an_angle_leave_no_trace() -> None:
    metric = AngularError()
    with (
        np.errstate(all="ignore"),
        pytest.raises(ClientError, match="surface normals: 1 of 1 predicted values are not"),
    ):
        metric.update(np.array([[(1e300, 1e300, 0.0)]]), np.array([[(1e300, 1e300, 0.0)]]))
    assert math.isnan(metric.compute()["mean_error"])
