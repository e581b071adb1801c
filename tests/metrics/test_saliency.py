import math

import numpy as np
import pytest

from mfed_ray.errors import ClientError, DataError
from mfed_ray.metrics.saliency import THRESHOLDS, Saliency


def test_thresholds_are_those_of_astmt() -> None:
    assert pytest.approx([0.2 + 0.05 * step for step in range(15)]) == THRESHOLDS


def test_values_worked_by_hand() -> None:
    metric = Saliency()
    target = np.array([[1, 1, 0, 0, 255]], dtype=np.uint8)
    metric.update(np.array([[0.95, 0.52, 0.51, 0.0, 0.95]]), target)
    metric.update(np.array([[0.95, 0.95, 0.0, 0.0, 0.0]]), target)
    # Image 1, thresholds up to 0.5: 2 hits, 1 false alarm, P 2/3, R 1, IoU 2/3; above: P 1, R 1/2, IoU 1/2.
    # Image 2 is right throughout. Means: P 5/6, R 1, IoU 5/6; then P 1, R 3/4, IoU 3/4.
    values = metric.compute()
    low, high = 1.3 * 5 / 6 / (0.3 * 5 / 6 + 1), 1.3 * 3 / 4 / (0.3 + 3 / 4)
    assert values["max_f"] == pytest.approx(max(low, high), abs=1e-9)
    assert values["max_miou"] == pytest.approx(5 / 6, abs=1e-9)


def test_a_pixel_at_the_threshold_is_not_salient() -> None:
    metric = Saliency()
    metric.update(np.array([[0.2, 0.2]]), np.array([[1, 0]], dtype=np.uint8))
    assert metric.compute() == {"max_f": 0.0, "max_miou": 0.0}


def test_an_empty_image_left_empty_has_full_iou() -> None:
    metric = Saliency()
    metric.update(np.zeros((2, 2)), np.zeros((2, 2), dtype=np.uint8))
    assert metric.compute() == {"max_f": 0.0, "max_miou": 1.0}


def test_nothing_counted_is_nan() -> None:
    assert all(math.isnan(value) for value in Saliency().compute().values())


def test_merged_halves_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    whole, halves = Saliency(), [Saliency(), Saliency()]
    for index in range(7):
        prediction, target = rng.random((9, 8), dtype=np.float32), rng.integers(0, 2, (9, 8))
        whole.update(prediction, target)
        halves[index % 2].update(prediction, target)
    halves[1].merge(halves[0])
    assert halves[1].compute() == whole.compute()


def test_a_prediction_of_another_shape_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"saliency: the prediction has shape \(2, 2, 1\), the target asks for \(2, 2\)"
    ):
        Saliency().update(np.zeros((2, 2, 1)), np.zeros((2, 2), dtype=np.uint8))


def test_logits_are_refused() -> None:
    with pytest.raises(
        ClientError, match=r"saliency: predictions lie in \[-3, 2\]; allowed are probabilities in \[0, 1\]"
    ):
        Saliency().update(np.array([[-3.0, 2.0]]), np.zeros((1, 2), dtype=np.uint8))


def test_predictions_of_a_diverged_model_are_refused() -> None:
    with pytest.raises(ClientError, match="saliency: 2 of 3 predicted values are not finite; all must be"):
        Saliency().update(np.array([[np.nan, np.inf, 0.0]]), np.zeros((1, 3), dtype=np.uint8))


def test_an_image_that_is_void_throughout_does_not_count() -> None:
    metric = Saliency()
    metric.update(np.full((2, 2), 0.95), np.full((2, 2), 255, dtype=np.uint8))
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(np.array([[0.95, 0.95]]), np.array([[1, 0]], dtype=np.uint8))
    assert metric.compute()["max_miou"] == 0.5


def test_targets_and_predictions_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match="saliency: the target is of float64; allowed are integers"):
        Saliency().update(np.zeros((1, 2)), np.array([[0.4, np.nan]]))
    with pytest.raises(DataError, match="saliency: the prediction is of int64; allowed are floating point"):
        Saliency().update(np.ones((1, 2), dtype=np.int64), np.zeros((1, 2), dtype=np.uint8))
    with pytest.raises(DataError, match=r"saliency: the target has shape \(1, 2, 1\); allowed are 2 axes"):
        Saliency().update(np.zeros((1, 2, 1)), np.zeros((1, 2, 1), dtype=np.uint8))
