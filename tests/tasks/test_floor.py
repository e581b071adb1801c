"""Floors against numbers worked by hand, and against every other constant prediction of the kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.annotations import Objects, Segments, Target
from mfed_ray.coco_categories import PANOPTIC
from mfed_ray.data.sample import Sample
from mfed_ray.metrics.panoptic_quality import PanopticQuality
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.tasks import TASKS
from mfed_ray.tasks.floor import floor

PERSON, GRASS, SKY = (
    next(label for label, category in enumerate(PANOPTIC) if category.name == name)
    for name in ("person", "grass-merged", "sky-other-merged")
)


@dataclass
class InMemory:
    """A data set of images that are given as their targets for one task."""

    targets: Mapping[str, Target]
    size: tuple[int, int]

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        (task,) = tasks
        return Sample(image_id, np.zeros((*self.size, 3), np.uint8), {task: self.targets[image_id]})


def floor_of(task: str, targets: Sequence[Target], size: tuple[int, int] = (2, 2)) -> dict[str, float]:
    named = {str(number): target for number, target in enumerate(targets)}
    dataset: Any = InMemory(named, size)  # no more of a data set is asked for
    return floor(TASKS[task], dataset, list(named))


def labels(*rows: Sequence[int]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def test_classes() -> None:
    """Of seven pixels that count four are of class 1: IoU 4/7, and 0 for the two other classes."""
    targets = [labels([0, 0], [1, 255]), labels([1, 1], [1, 2])]
    values = floor_of("semantic_segmentation", targets)
    assert values["miou"] == pytest.approx(4 / 21)
    assert values["pixel_accuracy"] == pytest.approx(4 / 7)
    assert floor_of("stuff_segmentation", targets)["miou"] == pytest.approx(4 / 21)
    others = []
    for label in range(21):
        metric = MeanIoU(21)
        for target in targets:
            metric.update(np.full((2, 2), label), target)
        others.append(metric.compute()["miou"])
    assert max(others) == values["miou"]


def test_saliency_all_of_it_or_nothing() -> None:
    """All salient: the mean of the salient shares. Nothing: IoU is 1 where nothing is salient, 0 elsewhere."""
    quarter, half, empty = labels([0, 0], [0, 1]), labels([1, 0], [0, 1]), labels([0, 0], [0, 0])
    assert floor_of("saliency", [quarter, half])["max_miou"] == pytest.approx(3 / 8)
    assert floor_of("saliency", [quarter, empty, empty])["max_miou"] == pytest.approx(2 / 3)


def test_edges_are_those_of_a_map_of_ones() -> None:
    line = np.zeros((20, 30, 1), np.uint8)
    line[9:11] = 1
    values = floor_of("edge_detection", [line, line], (20, 30))
    metric = TASKS["edge_detection"].make_metric()
    for _ in range(2):
        metric.update(np.ones((20, 30)), line)
    assert values["ods_f"] == metric.compute()["ods_f"] > 0


def test_one_normal() -> None:
    """Half the surface looks at the viewer, half to the right: 45 degrees from what lies in the middle; void apart."""
    normals = np.zeros((2, 2, 3), np.float32)
    normals[0, 0] = 0, 0, 1
    normals[0, 1] = 1, 0, 0
    assert floor_of("surface_normals", [normals])["mean_error"] == pytest.approx(45)


@pytest.mark.parametrize("task", ["instance_segmentation", "keypoint_detection"])
def test_nothing_found(task: str) -> None:
    boxes, area = np.array([[0, 0, 40, 40]], np.float32), np.array([1600], np.float32)
    keypoints = np.full((1, 17, 3), 2, np.float32)
    masks = np.ones((1, 40, 40), np.uint8)
    target = Objects((40, 40), boxes, np.array([1]), area, np.zeros(1, bool), masks, keypoints)
    values = floor_of(task, [target], (40, 40))
    assert values[TASKS[task].headline.metric] == 0
    assert values["box_ap"] == 0


def segments(*rows: Sequence[int], crowd: Sequence[int] = ()) -> Segments:
    """Each class as one segment; -1 is void."""
    map_ = np.array(rows, np.int32) + 1
    ids = np.setdiff1d(map_, [0]).astype(np.int64)
    return Segments(map_, ids, ids - 1, np.isin(ids - 1, crowd))


def test_one_segment() -> None:
    """Sky matches with IoU 3/4 and 1 in three images, all of which have sky: 2 * 7/4 / (3 + 3), of three classes."""
    targets = [segments([SKY, SKY], [SKY, PERSON]), segments([SKY, SKY], [-1, -1]), segments([GRASS] * 2, [GRASS, SKY])]
    assert floor_of("panoptic_segmentation", targets)["pq"] == pytest.approx(7 / 12 / 3)


def test_a_crowd_is_no_segment_to_match() -> None:
    """People fill two images, but as crowds; sky has 3/4 of one of three: 2 * 3/4 / (3 + 1), void and crowd excused."""
    people = segments([PERSON] * 2, [PERSON] * 2, crowd=[PERSON])
    values = floor_of("panoptic_segmentation", [people, people, segments([SKY, SKY], [SKY, GRASS])])
    assert values["pq"] == pytest.approx(3 / 8 / 2)


def test_one_segment_is_the_best_of_all_classes() -> None:
    rng = np.random.default_rng(0)
    targets = [
        segments(*rng.choice([PERSON, GRASS, SKY, 3], (4, 4), p=rng.dirichlet(np.full(4, 0.3)))) for _ in range(12)
    ]
    found = []
    for label in range(len(PANOPTIC)):
        metric = PanopticQuality()
        for target in targets:
            metric.update(Segments(np.ones((4, 4), np.int32), np.array([1]), np.array([label])), target)
        found.append(metric.compute()["pq"])
    assert floor_of("panoptic_segmentation", targets, (4, 4))["pq"] == max(found) > 0
