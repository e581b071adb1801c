"""COCO's numbers against pycocotools, run over whole files as everyone runs it."""

import contextlib
import io
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mfed_ray.annotations import Detections, Objects
from mfed_ray.coco_categories import THINGS
from mfed_ray.errors import ClientError, DataError
from mfed_ray.metrics.coco_objects import CocoObjects, Kind

LABELS = {category.id: index + 1 for index, category in enumerate(THINGS)}
FILES: dict[Kind, str] = {"mask": "instances", "keypoint": "person_keypoints"}
BOX_NAMES = [
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
]  # fmt: skip
KEYPOINT_NAMES = ["ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large"]

# pycocotools 2.0.11 decodes by an array protocol that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Pairs = list[tuple[int, Detections, Objects]]


def load(shared: Path, kind: Kind) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(shared / f"data/coco_mini/annotations/{FILES[kind]}_val2017.json")


def truth(coco: COCO, image_id: int, kind: Kind) -> Objects:
    annotations = coco.imgToAnns[image_id]
    size = coco.imgs[image_id]["height"], coco.imgs[image_id]["width"]
    boxes = np.array([one["bbox"] for one in annotations]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    points = masks = None
    if kind == "keypoint":
        points = np.array([one["keypoints"] for one in annotations], dtype=np.float32).reshape(-1, 17, 3)
        points[..., :2] += 0.5
    else:
        masks = np.array([coco.annToMask(one) for one in annotations], dtype=np.uint8).reshape(-1, *size)
    return Objects(
        size,
        boxes.astype(np.float32),
        np.array([LABELS[one["category_id"]] for one in annotations], dtype=np.int64),
        np.array([one["area"] for one in annotations], dtype=np.float32),
        np.array([one["iscrowd"] for one in annotations], dtype=bool),
        masks,
        points,
        image_id,
    )


def noisy(rng: np.random.Generator, target: Objects, kind: Kind) -> Detections:
    """Jittered copies of the objects, of each up to three, some with wrong labels, with many equal scores."""
    index = rng.permutation(np.repeat(np.arange(len(target.boxes)), rng.integers(0, 4, len(target.boxes))))
    jitter = rng.choice([0.0, 0.05, 0.3], len(index))
    width = target.boxes[index, 2:] - target.boxes[index, :2]
    boxes = target.boxes[index] + np.tile(width, 2) * rng.normal(size=(len(index), 4)) * jitter[:, None] / 4
    labels, points, masks = target.labels[index], None, None
    if target.keypoints is not None:
        points = target.keypoints[index]
        points[..., :2] += rng.normal(size=(len(index), 17, 2)) * (jitter[:, None] * width / 8)[:, None]
        points[..., 2] = 1
    if target.masks is not None:
        shift = np.rint(jitter * 8).astype(int)
        masks = np.array([np.roll(target.masks[one], by, 1) for one, by in zip(index, shift, strict=True)])
        masks = masks.astype(np.uint8).reshape(-1, *target.size)
    if kind == "mask":
        labels = np.where(rng.random(len(index)) < 0.15, rng.integers(1, 81, len(index)), labels)
    scores = np.round(rng.random(len(index)), 1).astype(np.float32)
    return Detections(target.size, boxes.astype(np.float32), labels, scores, masks, points)


def pairs(coco: COCO, kind: Kind) -> Pairs:
    rng = np.random.default_rng(0)
    found = []
    for image_id in sorted(coco.imgs):
        target = truth(coco, image_id, kind)
        found.append((image_id, noisy(rng, target, kind), target))
    return found


def reference(coco: COCO, found: Pairs, compared: str) -> NDArray[np.float64]:
    """COCOeval's statistics of a file of results in which each entry holds just what is compared."""
    results: list[dict[str, Any]] = []
    for image_id, prediction, _ in found:
        for index in range(len(prediction.boxes)):
            category = THINGS[prediction.labels[index] - 1].id
            one = {"image_id": image_id, "category_id": category, "score": float(prediction.scores[index])}
            x1, y1, x2, y2 = prediction.boxes[index].tolist()
            if compared == "bbox":
                one["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            elif prediction.masks is not None:
                one["segmentation"] = rle.encode(np.asfortranarray(prediction.masks[index]))
            elif prediction.keypoints is not None:
                one["keypoints"] = (prediction.keypoints[index].astype(float) - [0.5, 0.5, 0]).reshape(-1).tolist()
            results.append(one)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(results), compared)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    statistics: NDArray[np.float64] = evaluation.stats
    return np.where(statistics == -1, np.nan, statistics)


def named(prefix: str, names: list[str], values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{prefix}_{name}": float(value) for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_agrees_with_pycocotools_to_the_last_bit_and_merges(shared: Path, kind: Kind) -> None:
    coco = load(shared, kind)
    found = pairs(coco, kind)
    whole, halves = CocoObjects(kind), [CocoObjects(kind), CocoObjects(kind)]
    for index, (_, prediction, target) in enumerate(found):
        whole.update(prediction, target)
        halves[index // 20 > 0].update(prediction, target)
    expected = named("box", BOX_NAMES, reference(coco, found, "bbox"))
    if kind == "mask":
        expected |= named("mask", BOX_NAMES, reference(coco, found, "segm"))
    else:
        expected |= named("keypoint", KEYPOINT_NAMES, reference(coco, found, "keypoints"))
    values = whole.compute()
    assert values == expected
    assert all(0.05 < value < 0.95 for value in values.values())
    merged = pickle.loads(pickle.dumps(halves[0]))  # noqa: S301 - its own
    merged.merge(halves[1])
    assert merged.compute() == expected


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_neither_the_order_of_images_nor_that_of_merging_changes_a_bit(shared: Path, kind: Kind) -> None:
    coco = load(shared, kind)
    found = pairs(coco, kind)  # with scores of one decimal: most are tied
    expected = named("box", BOX_NAMES, reference(coco, found, "bbox"))
    rng = np.random.default_rng(1)
    shuffled = [found[index] for index in rng.permutation(len(found))]
    parts = [CocoObjects(kind) for _ in range(3)]
    for index, (_, prediction, target) in enumerate(shuffled):
        parts[index % 3].update(prediction, target)
    last = parts.pop()
    for part in parts:
        last.merge(part)
    values = last.compute()
    assert {name: values[name] for name in expected} == expected


def test_tied_scores_count_in_the_order_of_the_images_numbers() -> None:
    right, wrong = replace(square(0), image=1), replace(square(50), image=2)
    for order in ([right, wrong], [wrong, right]):
        metric = CocoObjects("mask")
        for target in order:
            metric.update(as_detections(square(0), 0.5), target)
        # The right one first: precision 1 up to recall 1/2, 51 of 101 recalls. The wrong one first would give 1/2.
        assert metric.compute()["box_ap"] == pytest.approx(51 / 101)


def square(*corners: int, label: int = 1, crowd: bool = False, size: int = 100) -> Objects:
    """One square object of side 40 for each (upper left) corner on the diagonal."""
    boxes = np.array([(corner, corner, corner + 40, corner + 40) for corner in corners], dtype=np.float32).reshape(
        -1, 4
    )
    masks = np.zeros((len(corners), size, size), dtype=np.uint8)
    for mask, corner in zip(masks, corners, strict=True):
        mask[corner : corner + 40, corner : corner + 40] = 1
    points = np.ones((len(corners), 17, 3), dtype=np.float32)
    points[..., :2] = boxes[:, None, :2] + np.arange(17)[:, None] * 2 + 0.5
    count = len(corners)
    return Objects(
        (size, size),
        boxes,
        np.full(count, label, dtype=np.int64),
        np.full(count, 1600.0, dtype=np.float32),
        np.full(count, crowd),
        masks,
        points,
    )


def as_detections(target: Objects, *scores: float) -> Detections:
    best_first = np.array(scores, dtype=np.float32)
    return Detections(target.size, target.boxes, target.labels, best_first, target.masks, target.keypoints)


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_values_worked_by_hand(kind: Kind) -> None:
    # Two objects, of which one is found, between a wrong detection with a better and one with a worse score.
    target, spread = square(0, 55), square(30, 0, 18)
    metric = CocoObjects(kind)
    metric.update(as_detections(spread, 0.9, 0.8, 0.7), target)
    values = metric.compute()
    for prefix in ("box", kind):
        # Precision 1/2 up to recall 1/2, that is at 51 of 101 recalls; 0 beyond.
        assert values[f"{prefix}_ap"] == pytest.approx(51 / 101 / 2)
        assert values[f"{prefix}_ap_medium"] == pytest.approx(51 / 101 / 2)
        assert math.isnan(values[f"{prefix}_ap_large"])
    assert values["box_ar1"] == 0
    assert values["box_ar10"] == 0.5


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_targets_fed_back_are_perfect(shared: Path, kind: Kind) -> None:
    coco, metric = load(shared, kind), CocoObjects(kind)
    for image_id in sorted(coco.imgs)[:8]:
        target = truth(coco, image_id, kind)
        known = target
        if target.keypoints is not None:
            # Nobody labelled these people's keypoints: any place in the box is right.
            unlabelled = ~target.keypoints[..., 2:].any(axis=1, keepdims=True)
            centres = (target.boxes[:, None, :2] + target.boxes[:, None, 2:]) / 2
            places = np.where(unlabelled, centres, target.keypoints[..., :2])
            known = replace(target, keypoints=np.concatenate([places, target.keypoints[..., 2:]], axis=2))
        metric.update(as_detections(known, *np.ones(len(target.boxes))), target)
    values = metric.compute()
    # COCOeval divides by the number of detections plus 2^-52.
    names = "box_ap", "box_ar100", f"{kind}_ap", f"{kind}_ap_large"
    assert [values[name] for name in names] == pytest.approx([1, 1, 1, 1], abs=1e-12)


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_a_crowd_is_neither_missed_nor_wrong_to_find(kind: Kind) -> None:
    crowd = square(50, crowd=True)
    metric = CocoObjects(kind)
    metric.update(as_detections(square(0), 0.5), square(0))
    metric.update(as_detections(crowd, 0.9), crowd)
    metric.update(as_detections(square()), crowd)
    assert metric.compute()["box_ap"] == pytest.approx(1, abs=1e-12)
    assert metric.compute()[f"{kind}_ap"] == pytest.approx(1, abs=1e-12)


def test_a_person_without_a_labelled_keypoint_counts_for_boxes_only() -> None:
    target = square(0, 50)
    assert target.keypoints is not None
    target.keypoints[1] = 0
    metric = CocoObjects("keypoint")
    metric.update(as_detections(square(0), 0.9), target)
    assert metric.compute()["keypoint_ar"] == 1
    assert metric.compute()["box_ar100"] == 0.5


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_nothing_counted_is_nan(kind: Kind) -> None:
    metric, empty = CocoObjects(kind), square()
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(as_detections(empty), empty)
    metric.update(as_detections(square(0), 0.9), empty)
    values = metric.compute()
    names = KEYPOINT_NAMES if kind == "keypoint" else BOX_NAMES
    assert list(values) == [f"box_{name}" for name in BOX_NAMES] + [f"{kind}_{name}" for name in names]
    assert all(math.isnan(value) for value in values.values())


def test_what_is_kept_does_not_grow_with_the_image() -> None:
    sizes = []
    for size in (100, 1000):
        metric, target = CocoObjects("mask"), square(0, 50, size=size)
        metric.update(as_detections(target, 0.9, 0.8), target)
        sizes.append(len(pickle.dumps(metric)))
    assert sizes[0] == sizes[1] < 3000


def test_sizes_and_shapes_that_differ_are_refused() -> None:
    target = square(0)
    with pytest.raises(DataError, match=r"COCO objects: the prediction is of an image of \(50, 50\), the target of"):
        CocoObjects("mask").update(as_detections(square(0, size=50), 0.9), target)
    narrow = replace(as_detections(target, 0.9), masks=np.zeros((1, 100, 90), dtype=np.uint8))
    with pytest.raises(DataError, match=r"COCO objects: masks are of shape \(1, 100, 90\); the boxes and the image's"):
        CocoObjects("mask").update(narrow, target)
    with pytest.raises(DataError, match=r"COCO objects: keypoints are missing; .* ask for \(1, 17, 3\)"):
        CocoObjects("keypoint").update(as_detections(target, 0.9), replace(target, keypoints=None))


def test_a_label_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match="COCO objects: the prediction holds label 81; allowed are 1 to 80"):
        CocoObjects("mask").update(as_detections(square(0, label=81), 0.9), square(0))
    with pytest.raises(DataError, match="COCO objects: the target holds label 2; allowed are 1 to 1"):
        CocoObjects("keypoint").update(as_detections(square(0), 0.9), square(0, label=2))


@pytest.mark.parametrize("field", ["scores", "boxes", "keypoints"])
def test_predictions_of_a_diverged_model_are_refused(field: str) -> None:
    prediction = as_detections(square(0), 0.9)
    values = getattr(prediction, field).copy()
    values.reshape(-1)[0] = np.nan
    with pytest.raises(ClientError, match=f"COCO objects: 1 of {values.size} predicted values are not finite"):
        CocoObjects("keypoint").update(replace(prediction, **{field: values}), square(0))


def test_an_update_that_is_refused_leaves_no_trace() -> None:
    target, metric = square(0), CocoObjects("mask")
    with pytest.raises(DataError, match="COCO objects: masks are missing"):
        metric.update(replace(as_detections(target, 0.9), masks=None), target)
    metric.update(as_detections(target, 0.9), target)
    assert metric.compute()["box_ar100"] == metric.compute()["mask_ar100"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones(2, np.float32)}, r"the prediction's scores are of shape \(2,\); allowed is \(1,\)"),
        ({"labels": np.ones(1, np.float32)}, "the prediction's labels is of float32; allowed are integers"),
        ({"boxes": [[0, 0, 1, 1]]}, "the prediction's boxes is a list; allowed is an array of floating point"),
        ({"masks": np.full((1, 100, 100), 2, np.uint8)}, "the prediction's masks hold 2; allowed are 0 and 1"),
    ],
)
def test_wrong_lengths_types_and_values_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"COCO objects: {message}"):
        CocoObjects("mask").update(replace(as_detections(square(0), 0.9), **change), square(0))


def test_targets_that_are_not_finite_are_refused() -> None:
    target = replace(square(0), areas=np.array([np.nan], np.float32))
    with pytest.raises(DataError, match="COCO objects: the target holds a value that is not finite"):
        CocoObjects("mask").update(as_detections(square(0), 0.9), target)


def test_another_kind_cannot_be_merged() -> None:
    with pytest.raises(DataError, match=r"counts by \['bbox', 'keypoints'\] cannot be merged into .*'segm'"):
        CocoObjects("mask").merge(CocoObjects("keypoint"))
