"""Results that pycocotools itself reads and scores."""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mfed_ray.annotations import Detections
from mfed_ray.coco_categories import THINGS
from mfed_ray.errors import DataError
from mfed_ray.predictions.coco_results import CocoResults, Kind, best, image_id
from mfed_ray.predictions.contract import PredictionWriter
from mfed_ray.predictions.drawing import NOTHING
from mfed_ray.predictions.palette import HUES, class_colour
from tests.predictions.notes import said

# pycocotools 2.0.11 decodes by an array protocol that NumPy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LABELS = {category.id: index + 1 for index, category in enumerate(THINGS)}


def annotated(coco: COCO, image: int, kind: Kind) -> Detections:
    """Ground truth, crowds too, with the score 1; keypoints that nobody labelled in the middle of the box."""
    annotations = coco.imgToAnns[image]
    size = coco.imgs[image]["height"], coco.imgs[image]["width"]
    boxes = np.array([one["bbox"] for one in annotations], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([LABELS[one["category_id"]] for one in annotations], dtype=np.int64)
    found = Detections(size, boxes, labels, np.ones(len(boxes), dtype=np.float32))
    if kind == "mask":
        masks = np.array([coco.annToMask(one) for one in annotations], dtype=np.uint8).reshape(-1, *size)
        return replace(found, masks=masks)
    points = np.array([one["keypoints"] for one in annotations], dtype=np.float32).reshape(-1, 17, 3)
    unlabelled = ~points[..., 2:].any(axis=1, keepdims=True)
    middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    points[..., :2] = np.where(unlabelled, middle, points[..., :2] + 0.5)
    points[..., 2] = 1
    return replace(found, keypoints=points)


@pytest.mark.parametrize(("kind", "file"), [("mask", "instances"), ("keypoint", "person_keypoints")])
def test_ground_truth_written_as_results_scores_one(tmp_path: Path, shared: Path, kind: Kind, file: str) -> None:
    data = shared / "data/coco_mini"
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(data / f"annotations/{file}_val2017.json")
    crowded = {one["image_id"] for one in coco.anns.values() if one["iscrowd"]}
    images = sorted({*sorted(coco.imgs)[3:6], *crowded})
    writer: PredictionWriter = CocoResults(tmp_path / "new", kind)
    for image in images:
        name = f"{image:012d}"
        writer.add(
            name, np.asarray(Image.open(data / f"val2017/{name}.jpg").convert("RGB")), annotated(coco, image, kind)
        )
    writer.close()
    with contextlib.redirect_stdout(io.StringIO()):
        results = coco.loadRes(str(tmp_path / "new/results.json"))
    for compared in ("bbox", "segm" if kind == "mask" else "keypoints"):
        assert statistics(coco, results, compared, images)[0] == pytest.approx(1, abs=1e-12)


def statistics(coco: COCO, results: COCO, compared: str, images: list[int]) -> NDArray[np.float64]:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, results, compared)
        evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found: NDArray[np.float64] = evaluation.stats
    return found


def random_detections(count: int, height: int = 30, width: int = 40) -> Detections:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 15, (count, 2, 2)).cumsum(axis=1).reshape(count, 4)
    return Detections(
        (height, width),
        corners.astype(np.float32),
        rng.integers(1, 81, count),
        np.sort(rng.random(count).astype(np.float32))[::-1],
        rng.integers(0, 2, (count, height, width), dtype=np.uint8),
        rng.uniform(0, 30, (count, 17, 3)).astype(np.float32),
    )


def read(folder: Path, kind: Kind, *predictions: Detections) -> list[dict[str, object]]:
    writer = CocoResults(folder, kind)
    for index, prediction in enumerate(predictions):
        writer.add(f"{index:04d}", np.zeros((*prediction.size, 3), dtype=np.uint8), prediction)
    writer.close()
    results: list[dict[str, object]] = json.loads((folder / "results.json").read_text())
    return results


def test_files_hold_the_prediction_exactly(tmp_path: Path) -> None:
    prediction = random_detections(7)
    masks, points = (read(tmp_path / kind, kind, prediction) for kind in ("mask", "keypoint"))
    assert [one["image_id"] for one in masks] == [0] * 7
    assert [LABELS[one["category_id"]] for one in masks] == prediction.labels.tolist()  # type: ignore[index]
    assert np.array_equal(np.array([one["score"] for one in masks]), prediction.scores)
    boxes = np.array([one["bbox"] for one in points])
    boxes[:, 2:] += boxes[:, :2]
    assert np.array_equal(boxes.astype(np.float32), prediction.boxes)
    decoded = rle.decode([one["segmentation"] for one in masks])
    assert prediction.masks is not None
    assert np.array_equal(decoded.transpose(2, 0, 1), prediction.masks)
    keypoints = np.array([one["keypoints"] for one in points]).reshape(7, 17, 3)
    keypoints[..., :2] += 0.5
    assert prediction.keypoints is not None
    assert np.array_equal(keypoints.astype(np.float32), prediction.keypoints)


@pytest.mark.parametrize("kind", ["mask", "keypoint"])
def test_images_without_objects_have_an_overlay_and_no_entry(tmp_path: Path, kind: Kind) -> None:
    assert read(tmp_path, kind, random_detections(0)) == []
    assert said(tmp_path / "overlays/0000.png", np.zeros((30, 40, 3), np.uint8), NOTHING)
    assert len(read(tmp_path, kind, random_detections(0), random_detections(2))) == 2


def test_an_image_is_known_by_its_number_or_its_name() -> None:
    assert [image_id(name) for name in ("000000000139", "0", "garden_2", "12a", "²")] == [
        139,
        0,
        "garden_2",
        "12a",
        "²",
    ]


@pytest.mark.parametrize(("kind", "what"), [("mask", "masks"), ("keypoint", "keypoints")])
def test_a_prediction_of_another_kind_is_refused(tmp_path: Path, kind: Kind, what: str) -> None:
    bare = replace(random_detections(1), masks=None, keypoints=None)
    with pytest.raises(DataError, match=f"COCO results: a prediction has no {what}, which results of its kind must"):
        CocoResults(tmp_path, kind).add("a", np.zeros((30, 40, 3), dtype=np.uint8), bare)


def test_the_overlay_shows_what_scores_at_least_half_as_much_as_the_best(tmp_path: Path) -> None:
    masks = np.zeros((3, 400, 400), dtype=np.uint8)
    for index in range(3):
        masks[index, 100 * index : 100 * index + 80, 100:300] = 1
    boxes = np.array([[100, 100 * index, 300, 100 * index + 80] for index in range(3)], dtype=np.float32)
    scores = np.array([0.6, 0.3, 0.29], dtype=np.float32)
    prediction = Detections((400, 400), boxes, np.array([1, 2, 3]), scores, masks)
    CocoResults(tmp_path, "mask").add("a", np.full((400, 400, 3), 100, dtype=np.uint8), prediction)
    pixels = np.asarray(Image.open(tmp_path / "overlays/a.png"))
    assert np.allclose(pixels[60, 200], 55 + 0.45 * np.array(class_colour("person")), atol=0.5)
    assert np.allclose(pixels[160, 200], 55 + 0.45 * np.array(class_colour("bicycle")), atol=0.5)
    assert (pixels[190:] == 100).all()


def test_people_are_told_apart_by_hue(tmp_path: Path) -> None:
    points = np.ones((2, 17, 3), dtype=np.float32)
    points[..., :2] = np.arange(17)[:, None] * 5 + np.array([100, 250])[:, None, None]
    boxes = np.array([[100, 100, 190, 190], [250, 250, 340, 340]], dtype=np.float32)
    prediction = Detections((400, 400), boxes, np.array([1, 1]), np.array([0.9, 0.8], dtype=np.float32), None, points)
    CocoResults(tmp_path, "keypoint").add("a", np.zeros((400, 400, 3), dtype=np.uint8), prediction)
    pixels = np.asarray(Image.open(tmp_path / "overlays/a.png"))
    for start, index in ((100, 0), (250, 1)):
        part = pixels[start : start + 90, start : start + 90]
        assert (part == HUES[index]).all(axis=2).sum() > 300
        assert not (part == HUES[1 - index]).all(axis=2).any()


def scored(*scores: float, boxes: Sequence[Sequence[float]] = ()) -> Detections:
    """People with these scores, in boxes beside each other unless others are given."""
    apart = [[20 * number, 0, 20 * number + 10, 10] for number in range(len(scores))]
    corners = np.array(boxes or apart, dtype=np.float32).reshape(-1, 4)
    points = np.ones((len(scores), 17, 3), dtype=np.float32)
    return Detections((40, 40), corners, np.ones(len(scores), np.int64), np.array(scores, np.float32), None, points)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.9, 0.46, 0.44), [0, 1]),  # half of the best
        ((0.4, 0.31, 0.29), [0, 1]),  # and this at least
        ((0.29, 0.1), []),
        ((0.3, 0.9, 0.5), [1, 2]),  # the best first, however they come
        ((*np.linspace(0.9, 0.6, 13),), list(range(10))),
        ((1.0,) * 25, list(range(25))),  # a ground truth
        ((), []),
    ],
)
def test_an_overlay_shows_the_best(scores: tuple[float, ...], expected: list[int]) -> None:
    assert best(scored(*scores)) == expected


def test_of_objects_on_top_of_each_other_the_best_is_shown() -> None:
    """Boxes of 10 x 10 shifted by 5 have 50 of 150 pixels in common, 0.33; by 6, 40 of 160, 0.25."""
    boxes = [[0, 0, 10, 10], [5, 0, 15, 10], [6, 0, 16, 10]]
    people = scored(0.9, 0.8, 0.7, boxes=boxes)
    assert best(people) == [0, 2]  # what is hidden hides nothing
    assert best(scored(1, 1, 1, boxes=boxes)) == [0, 1, 2]  # a ground truth
    assert best(replace(people, labels=np.array([1, 2, 1]))) == [0, 1, 2]  # a rider and a horse
    flat = [[0, 0, 10, 0], [0, 0, 10, 0]]
    assert best(scored(0.9, 0.8, boxes=flat)) == [0, 1]


def test_where_no_object_scores_enough_the_best_score_is_told(tmp_path: Path) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    writer = CocoResults(tmp_path, "keypoint")
    writer.add("a", image, scored(0.12, 0.1))
    assert said(tmp_path / "overlays/a.png", image, "nothing found (best score 0.12)")
