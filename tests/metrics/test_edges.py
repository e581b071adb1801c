import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_gradient_magnitude

from mfed_ray.boundaries import thin
from mfed_ray.errors import ClientError, DataError
from mfed_ray.metrics.edges import EdgeDetection

SHAPE = (30, 40)  # diagonal 50


def points(*positions: tuple[int, int], value: float = 1) -> NDArray[Any]:
    image = np.zeros(SHAPE)
    for position in positions:
        image[position] = value
    return image


def annotators(*maps: NDArray[Any]) -> NDArray[np.uint8]:
    return np.stack(maps, axis=-1).astype(np.uint8)


def precision_recall(prediction: NDArray[Any], target: NDArray[np.uint8]) -> tuple[float, float]:
    """With a tolerance of 2 pixels."""
    metric = EdgeDetection(max_distance=2 / 50, thresholds=1)
    metric.update(prediction, target)
    values = metric.compute()
    return values["ods_precision"], values["ods_recall"]


def test_a_line_displaced_within_the_tolerance_matches_and_beyond_does_not() -> None:
    line = np.zeros(SHAPE)
    line[10, 5:30] = 1
    assert precision_recall(np.roll(line, 2, axis=0), annotators(line)) == (1, 1)
    assert precision_recall(np.roll(line, 3, axis=0), annotators(line)) == (0, 0)
    # Along itself: 25 pixels, displaced by 5, of which 5 - 2 at each end find nothing left.
    assert precision_recall(np.roll(line, 5, axis=1), annotators(line)) == (22 / 25, 22 / 25)


def test_precision_counts_any_annotator_and_recall_counts_all() -> None:
    first, second = points((2, 2)), points((2, 2), (20, 20), (20, 30))
    prediction = points((2, 2), (20, 20), (12, 0), (12, 10))
    assert precision_recall(prediction, annotators(first, second)) == (2 / 4, 3 / 4)


def test_predictions_on_pixels_that_are_void_to_all_do_not_count() -> None:
    void = points((20, 20), value=255)
    right, wrong = points((2, 2)), points((20, 20))
    assert precision_recall(right + wrong, annotators(right + void)) == (1, 1)
    assert precision_recall(right + wrong, annotators(right + void, right)) == (1 / 2, 1)


def test_an_image_that_is_void_throughout_adds_nothing() -> None:
    metric = EdgeDetection()
    metric.update(points((2, 2)), annotators(np.full(SHAPE, 255)))
    assert all(math.isnan(value) for value in metric.compute().values())


def test_a_metric_of_another_protocol_cannot_be_merged() -> None:
    for other in (EdgeDetection(max_distance=0.011), EdgeDetection(thresholds=101), EdgeDetection(nms=True)):
        with pytest.raises(DataError, match=r"cannot be merged into counts by \[0.0075, 99, False\]"):
            EdgeDetection().merge(other)


def test_targets_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match="edge detection: the target is of float64; allowed are integers"):
        EdgeDetection().update(points(), points()[..., None])
    with pytest.raises(DataError, match=r"edge detection: the target has shape \(30, 40\); allowed are 3 axes"):
        EdgeDetection().update(points(), points().astype(np.uint8))


@pytest.mark.parametrize("nms", [False, True])
def test_an_image_of_a_single_pixel(nms: bool) -> None:
    metric = EdgeDetection(nms=nms)
    metric.update(np.ones((1, 1)), np.ones((1, 1, 1), dtype=np.uint8))
    assert metric.compute()["ods_f"] == 1


def test_prediction_is_thinned_and_the_threshold_inclusive() -> None:
    band = np.zeros(SHAPE)
    band[9:12, 5:30] = 0.5
    line = thin(band)
    assert line.sum() < 30
    assert precision_recall(band, annotators(line)) == (1, 1)


def test_empty_predictions_and_empty_truth_score_zero() -> None:
    names = {"ods_f", "ods_precision", "ods_recall", "ois_f", "ap"}
    for prediction, truth in ((points(), points((2, 2))), (points((2, 2)), points()), (points(), points())):
        metric = EdgeDetection()
        metric.update(prediction, annotators(truth))
        assert {name: metric.compute()[name] for name in names} == dict.fromkeys(names, 0.0)


def test_false_positives_on_an_image_without_edges_cost_precision() -> None:
    metric = EdgeDetection(thresholds=1)
    metric.update(points((2, 2)), annotators(points((2, 2))))
    metric.update(points((5, 5), (9, 9), (20, 9)), annotators(points()))
    assert metric.compute()["ods_precision"] == 1 / 4


def test_ods_ois_and_ap_worked_by_hand() -> None:
    metric = EdgeDetection(thresholds=3)
    truth = annotators(points((5, 5)))
    metric.update(points((5, 5), value=0.9) + points((20, 20), value=0.4), truth)
    metric.update(points((5, 5), value=0.3), truth)
    # Thresholds 0.25, 0.5, 0.75: precision 2/3, 1, 1; recall 1, 1/2, 1/2. Best between the first two.
    values = metric.compute()
    shares = np.linspace(0, 1, 100)
    precision, recall = 2 / 3 + shares / 3, 1 - shares / 2
    f = 2 * precision * recall / (precision + recall)
    best = f.argmax()
    assert 0 < best < 99
    assert values["ods_f"] == pytest.approx(f[best])
    assert values["ods_precision"] == pytest.approx(precision[best])
    assert values["ods_recall"] == pytest.approx(recall[best])
    assert values["ods_threshold"] == pytest.approx(0.25 + 0.25 * shares[best])
    # Each image at its own best threshold is right.
    assert values["ois_f"] == 1
    # Recalls 0.5, 0.51 ... 1: 51 of them, with a mean precision of 5/6.
    assert values["ap"] == pytest.approx(0.51 * 5 / 6)


def test_merged_halves_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    whole, halves = EdgeDetection(), [EdgeDetection(), EdgeDetection()]
    for index in range(5):
        prediction = rng.random(SHAPE, dtype=np.float32)
        target = annotators(*(thin(rng.random(SHAPE) > 0.8) for _ in range(2)))
        whole.update(prediction, target)
        halves[index % 2].update(prediction, target)
    halves[1].merge(halves[0])
    assert halves[1].compute() == whole.compute()


def test_nothing_counted_is_nan() -> None:
    values = EdgeDetection().compute()
    assert list(values) == ["ods_f", "ods_precision", "ods_recall", "ods_threshold", "ois_f", "ap"]
    assert all(math.isnan(value) for value in values.values())


def test_the_protocol_is_named() -> None:
    assert EdgeDetection(max_distance=0.011, thresholds=101).protocol == (
        "BSDS, 101 thresholds, thinning without non-maximum suppression, within 0.011 of the diagonal"
    )
    assert EdgeDetection(nms=True).protocol == (
        "BSDS, 99 thresholds, non-maximum suppression and thinning, within 0.0075 of the diagonal"
    )


def test_suppression_finds_the_ridge_of_a_band_and_thinning_its_middle() -> None:
    band = np.zeros(SHAPE)
    band[:, 14:22] = 0.55, 0.6, 0.65, 0.7, 0.75, 0.85, 1, 0.85
    target = annotators(points(*((row, 20) for row in range(5, 25))))
    thinned, suppressed = (EdgeDetection(max_distance=1 / 50, thresholds=1, nms=nms) for nms in (False, True))
    thinned.update(band, target)
    suppressed.update(band, target)
    assert thinned.compute()["ods_recall"] == 0
    assert suppressed.compute()["ods_recall"] == 1
    # Smoothed, the ridge is 3.7 / 4 high; fading leaves rows 3 to 26 of it above the threshold.
    assert suppressed.compute()["ods_precision"] == pytest.approx(20 / 24)


def test_a_prediction_of_another_shape_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"edge detection: the prediction has shape \(2, 3\), the target asks for \(3, 2\)"
    ):
        EdgeDetection().update(np.zeros((2, 3)), np.zeros((3, 2, 1), dtype=np.uint8))


def test_a_prediction_that_is_no_probability_is_refused() -> None:
    target = annotators(points())
    with pytest.raises(ClientError, match=r"edge detection: predictions lie in \[0, 4\]; allowed are probabilities"):
        EdgeDetection().update(points((1, 1), value=4), target)
    with pytest.raises(ClientError, match="edge detection: 1 of 1200 predicted values are not finite"):
        EdgeDetection().update(points((1, 1), value=math.nan), target)


def crops(shared: Path) -> list[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Gradient magnitudes of three BSDS images with three annotators' edges, 160x200."""
    root = shared / "data/bsds_mini"
    window = slice(60, 220), slice(80, 280)
    pairs = []
    for name in (root / "ImageSets/Context/val.txt").read_text().split()[3:6]:
        image = np.asarray(Image.open(root / f"JPEGImages/{name}.jpg").convert("L"), dtype=float)
        magnitude = gaussian_gradient_magnitude(image, 2.0)[window]
        edges = scipy.io.loadmat(root / f"pascal-context/trainval/{name}.mat")["Boundaries"][:3]
        pairs.append((np.clip(magnitude / np.quantile(magnitude, 0.99), 0, 1), np.moveaxis(edges, 0, -1)[window]))
    return pairs


def f_measure(counts: NDArray[Any]) -> Any:
    recall = counts[..., 0] / np.maximum(counts[..., 1], 1)
    precision = counts[..., 2] / np.maximum(counts[..., 3], 1)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def test_agrees_with_the_bsds_matching_code(shared: Path) -> None:
    reference = pytest.importorskip("pyEdgeEval._lib", reason="port of the BSDS C++ matching")
    distance = 4.3 / math.hypot(160, 200)  # the pixels that 0.0075 gives on a whole image
    metric = EdgeDetection(max_distance=distance, thresholds=15)
    total, best = np.zeros((15, 4)), np.zeros(4)
    for prediction, target in crops(shared):
        metric.update(prediction, target)
        counts = np.zeros((15, 4))
        for index in range(15):
            edges = thin(prediction >= (index + 1) / 16)
            united = np.zeros(edges.shape, dtype=bool)
            for truth in np.moveaxis(target, -1, 0):
                used, found, _, _ = reference.correspond_pixels(edges, truth, max_dist=distance)
                united |= used > 0
                counts[index, :2] += np.count_nonzero(found), truth.sum()
            counts[index, 2:] = united.sum(), edges.sum()
        total += counts
        best += counts[f_measure(counts).argmax()]
    values = metric.compute()
    assert 0.4 < values["ods_f"] < 0.9
    # Interpolation between thresholds can only add to the best F at one of them, and here adds little.
    assert values["ods_f"] == pytest.approx(f_measure(total).max(), abs=0.003)
    assert values["ois_f"] == pytest.approx(f_measure(best), abs=0.003)
