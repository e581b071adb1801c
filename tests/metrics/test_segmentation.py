import math

import numpy as np
import pytest

from mfed_ray.errors import DataError
from mfed_ray.metrics.segmentation import MeanIoU


def test_values_worked_by_hand() -> None:
    metric = MeanIoU(classes=4)
    metric.update(np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 255]], dtype=np.uint8))
    metric.update(np.array([[1, 0]]), np.array([[1, 0]], dtype=np.uint8))
    # Class 0: 2 hits, 1 false alarm. Class 1: 2 hits, 1 miss. Class 2 only on void. Class 3 nowhere.
    values = metric.compute()
    assert values["iou/0"] == pytest.approx(2 / 3)
    assert values["iou/1"] == pytest.approx(2 / 3)
    assert math.isnan(values["iou/2"])
    assert math.isnan(values["iou/3"])
    assert values["miou"] == pytest.approx(2 / 3)
    assert values["pixel_accuracy"] == pytest.approx(4 / 5)
    # Targets: class 0 twice, both hit; class 1 three times, two hit.
    assert values["mean_accuracy"] == pytest.approx((2 / 2 + 2 / 3) / 2)
    assert values["fwiou"] == pytest.approx(2 / 5 * 2 / 3 + 3 / 5 * 2 / 3)


def test_a_class_only_predicted_counts_as_zero() -> None:
    metric = MeanIoU(classes=3)
    metric.update(np.array([[0, 2]]), np.array([[0, 0]], dtype=np.uint8))
    values = metric.compute()
    assert values["miou"] == pytest.approx((1 / 2 + 0) / 2)
    # It has no share of the target, and no accuracy.
    assert values["fwiou"] == pytest.approx(1 / 2)
    assert values["mean_accuracy"] == pytest.approx(1 / 2)


def test_coco_stuff_leaves_out_a_class_only_predicted() -> None:
    either, target = MeanIoU(classes=4), MeanIoU(classes=4, over="target")
    for metric in (either, target):
        metric.update(np.array([[0, 0, 2, 1]]), np.array([[0, 0, 0, 1]], dtype=np.uint8))
    # Class 0: 2 of 3. Class 1: 1 of 1. Class 2: 0 of 1, in the prediction alone. Class 3 nowhere.
    assert either.compute()["miou"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert target.compute()["miou"] == pytest.approx((2 / 3 + 1) / 2)
    assert either.compute()["iou/2"] == 0
    assert math.isnan(target.compute()["iou/2"])
    for name in ("fwiou", "pixel_accuracy", "mean_accuracy", "iou/0", "iou/1"):
        assert target.compute()[name] == either.compute()[name]


def test_classes_weigh_by_their_share_of_the_target_in_fwiou() -> None:
    metric = MeanIoU(classes=2)
    metric.update(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]], dtype=np.uint8))
    values = metric.compute()
    assert values["fwiou"] == pytest.approx(3 / 4 * 3 / 4 + 1 / 4 * 0)
    assert values["miou"] == pytest.approx((3 / 4 + 0) / 2)
    assert values["mean_accuracy"] == pytest.approx((1 + 0) / 2)


def test_counts_are_pooled_over_images_not_averaged() -> None:
    metric = MeanIoU(classes=2)
    metric.update(np.zeros((1, 9), dtype=int), np.zeros((1, 9), dtype=np.uint8))
    metric.update(np.array([[0]]), np.array([[1]], dtype=np.uint8))
    assert metric.compute()["iou/0"] == pytest.approx(9 / 10)


def test_nothing_counted_is_nan() -> None:
    metric = MeanIoU(classes=2)
    metric.update(np.array([[1]]), np.array([[255]], dtype=np.uint8))
    assert list(metric.compute()) == ["miou", "fwiou", "pixel_accuracy", "mean_accuracy", "iou/0", "iou/1"]
    assert all(math.isnan(value) for value in metric.compute().values())


def test_merged_halves_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    whole, halves = MeanIoU(21), [MeanIoU(21), MeanIoU(21)]
    for index in range(6):
        prediction, target = rng.integers(0, 21, (2, 30, 40))
        whole.update(prediction, target)
        halves[index % 2].update(prediction, target)
    halves[0].merge(halves[1])
    assert halves[0].compute() == whole.compute()


def test_a_prediction_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"mean IoU: the prediction has shape \(2, 3\), the target asks for \(3, 2\)"):
        MeanIoU(2).update(np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=np.uint8))


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match=r"mean IoU: the target holds class 7; allowed are 0 to 6"):
        MeanIoU(7).update(np.array([[0]]), np.array([[7]], dtype=np.uint8))
    with pytest.raises(DataError, match=r"mean IoU: the prediction holds class -1; allowed are 0 to 6"):
        MeanIoU(7).update(np.array([[-1]]), np.array([[0]], dtype=np.uint8))


def test_floats_are_no_classes() -> None:
    target = np.zeros((1, 2), dtype=np.uint8)
    for prediction in (np.array([[0.9, 1.0]]), np.array([[np.nan, 0.0]])):
        with pytest.raises(DataError, match="mean IoU: the prediction is of float64; allowed are integers"):
            MeanIoU(2).update(prediction, target)
    with pytest.raises(DataError, match="mean IoU: the target is of float64; allowed are integers"):
        MeanIoU(2).update(target, np.zeros((1, 2)))
    with pytest.raises(DataError, match="mean IoU: the prediction is a list; allowed is an array of integers"):
        MeanIoU(2).update([[0, 0]], target)  # type: ignore[arg-type]


def test_an_image_without_pixels_is_refused() -> None:
    empty = np.zeros((0, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"mean IoU: the target has shape \(0, 3\), which has no pixel"):
        MeanIoU(2).update(empty, empty)


def test_only_like_metrics_are_merged() -> None:
    with pytest.raises(
        DataError, match=r"mean IoU: counts by \[3, 'any'\] cannot be merged into counts by \[2, 'any'\]"
    ):
        MeanIoU(2).merge(MeanIoU(3))
    with pytest.raises(DataError, match="'target'"):
        MeanIoU(2).merge(MeanIoU(2, over="target"))
