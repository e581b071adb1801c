"""Panoptic quality against cases worked by hand and the definition, written out segment by segment."""

import json
import math
import pickle
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mfed_ray.annotations import Segments
from mfed_ray.coco_categories import PANOPTIC
from mfed_ray.errors import DataError
from mfed_ray.metrics.panoptic_quality import PanopticQuality

THING, OTHER_THING, STUFF = 0, 7, 100


def segments(rows: list[list[int]], labels: dict[int, int], crowd: tuple[int, ...] = ()) -> Segments:
    return Segments(
        map=np.array(rows, dtype=np.int32),
        ids=np.array(list(labels), dtype=np.int64),
        labels=np.array(list(labels.values()), dtype=np.int64),
        crowd=np.array([key in crowd for key in labels], dtype=bool),
    )


def score(prediction: Segments, target: Segments) -> dict[str, float]:
    metric = PanopticQuality()
    metric.update(prediction, target)
    return metric.compute()


def test_values_worked_by_hand() -> None:
    target = segments([[1, 1, 1, 1, 2, 2, 2, 2, 3, 3]], {1: THING, 2: THING, 3: STUFF})
    prediction = segments([[9, 9, 9, 8, 8, 8, 0, 0, 5, 5]], {9: THING, 8: THING, 5: STUFF})
    # 9 covers 3 of 4 pixels of 1: IoU 3/4, a match. 8 shares 1 of 6 with 1 and 2 of 5 with 2: FP, and 2 is FN.
    # Things: SQ 3/4, RQ 1 / (1 + 1/2 + 1/2), PQ 3/8. Stuff: 1 throughout.
    values = score(prediction, target)
    assert (values["pq_things"], values["sq_things"], values["rq_things"]) == pytest.approx((3 / 8, 3 / 4, 1 / 2))
    assert (values["pq_stuff"], values["sq_stuff"], values["rq_stuff"]) == (1, 1, 1)
    assert (values["pq"], values["sq"], values["rq"]) == pytest.approx((11 / 16, 7 / 8, 3 / 4))
    assert values[f"pq/{THING}"] == pytest.approx(3 / 8)
    assert math.isnan(values[f"pq/{OTHER_THING}"])


def test_an_iou_of_one_half_is_no_match() -> None:
    target = segments([[1, 1, 1, 1]], {1: THING})
    assert score(segments([[1, 1, 0, 0]], {1: THING}), target)["pq"] == 0
    assert score(segments([[1, 1, 1, 0]], {1: THING}), target)["pq"] == 3 / 4


def test_another_class_matches_nothing() -> None:
    values = score(segments([[4, 4]], {4: OTHER_THING}), segments([[4, 4]], {4: THING}))
    assert (values[f"pq/{THING}"], values[f"pq/{OTHER_THING}"]) == (0, 0)
    assert (values["pq"], values["sq"]) == (0, 0)


def test_void_is_left_out_of_the_union() -> None:
    target = segments([[1, 1, 1, 0, 0, 0, 0]], {1: THING})
    # 2 shared; union 6 + 3 - 2 - 4 void = 3.
    values = score(segments([[0, 5, 5, 5, 5, 5, 5]], {5: THING}), target)
    assert values["pq"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("on_void", "false_positives"), [(1, 1), (2, 1), (3, 0)])
def test_a_prediction_mostly_on_void_is_not_a_false_positive(on_void: int, false_positives: int) -> None:
    # 4 pixels predicted as a thing, of which on_void lie on void, the others on stuff; 1 is matched beside it.
    row = [1, 1, *[0] * on_void, *[2] * (4 - on_void), 2, 2, 2, 2]
    target = segments([row], {1: THING, 2: STUFF})
    prediction = segments([[1, 1, 3, 3, 3, 3, 2, 2, 2, 2]], {1: THING, 3: THING, 2: STUFF})
    assert score(prediction, target)["pq_things"] == pytest.approx(1 / (1 + false_positives / 2))


@pytest.mark.parametrize(("label", "false_positives"), [(THING, 0), (OTHER_THING, 1)])
def test_a_crowd_excuses_predictions_of_its_own_class_only(label: int, false_positives: int) -> None:
    # The crowd 2 is neither found nor missed, though 6 covers it exactly.
    target = segments([[1, 1, 2, 2, 2]], {1: label, 2: THING}, crowd=(2,))
    prediction = segments([[5, 5, 6, 6, 6]], {5: label, 6: label})
    values = score(prediction, target)
    assert values[f"pq/{label}"] == pytest.approx(1 / (1 + false_positives / 2))
    assert values["pq"] == values[f"pq/{label}"]


@pytest.mark.parametrize(("listed", "false_positives"), [((2, 3), 0), ((3, 2), 1)])
def test_of_several_crowds_of_a_class_the_one_listed_last_excuses(
    listed: tuple[int, int], false_positives: int
) -> None:
    # 7 lies on crowd 3. A crowd of another class that is listed after both changes nothing.
    labels = {1: THING} | dict.fromkeys(listed, THING) | {4: OTHER_THING}
    target = segments([[1, 1, 2, 2, 2, 3, 3, 3, 4]], labels, crowd=(2, 3, 4))
    prediction = segments([[1, 1, 0, 0, 0, 7, 7, 7, 0]], {1: THING, 7: THING})
    assert score(prediction, target)["pq"] == pytest.approx(1 / (1 + false_positives / 2))


def test_void_and_crowd_add_up() -> None:
    # 6 lies on one pixel of void, one of its class's crowd, one of stuff: 2/3 are excused, neither half alone is.
    target = segments([[1, 0, 2, 3, 3, 3]], {1: THING, 2: THING, 3: STUFF}, crowd=(2,))
    prediction = segments([[1, 6, 6, 6, 3, 3]], {1: THING, 6: THING, 3: STUFF})
    assert score(prediction, target)["pq_things"] == 1


def test_a_target_fed_back_is_perfect_and_images_without_segments_count_nothing() -> None:
    target = segments([[1, 1, 2], [4, 4, 0]], {4: STUFF, 1: THING, 2: OTHER_THING}, crowd=(2,))
    values = score(target, target)
    assert [values[name] for name in ("pq", "sq", "rq", "pq_things", "pq_stuff")] == [1] * 5
    nothing = score(segments([[0, 0]], {}), segments([[0, 0]], {}))
    assert list(nothing)[:9] == [name + suffix for suffix in ("", "_things", "_stuff") for name in ("pq", "sq", "rq")]
    assert len(nothing) == 9 + 133
    assert all(math.isnan(value) for value in nothing.values())


def by_definition(pairs: list[tuple[Segments, Segments]]) -> dict[str, float]:
    """PQ, SQ and RQ, by sets of pixels and loops over segments."""
    tally: defaultdict[int, dict[str, float]] = defaultdict(lambda: {"tp": 0, "fp": 0, "fn": 0, "iou": 0.0})
    for prediction, target in pairs:
        found, truth = pixels(prediction), pixels(target)
        crowd = dict(zip(target.ids.tolist(), (target.crowd if target.crowd is not None else []), strict=True))
        found_label = dict(zip(prediction.ids.tolist(), prediction.labels.tolist(), strict=True))
        true_label = dict(zip(target.ids.tolist(), target.labels.tolist(), strict=True))
        matched: set[tuple[str, int]] = set()
        for p in found_label:
            for t in true_label:
                union = (found[p] | truth[t]) - (found[p] & truth[0])
                iou = len(found[p] & truth[t]) / len(union)
                if not crowd[t] and found_label[p] == true_label[t] and iou > 0.5:
                    tally[true_label[t]]["tp"] += 1
                    tally[true_label[t]]["iou"] += iou
                    matched |= {("p", p), ("t", t)}
        for t in true_label:
            tally[true_label[t]]["fn"] += ("t", t) not in matched and not crowd[t]
        last_crowd = {true_label[t]: truth[t] for t in true_label if crowd[t]}
        for p in found_label:
            excused = truth[0] | last_crowd.get(found_label[p], set())
            tally[found_label[p]]["fp"] += ("p", p) not in matched and not len(found[p] & excused) > len(found[p]) / 2
    values = {}
    for suffix, group in {"": range(133), "_things": range(80), "_stuff": range(80, 133)}.items():
        counted = [tally[label] for label in group if label in tally and sum(tally[label].values()) > 0]
        weights = [one["tp"] + one["fp"] / 2 + one["fn"] / 2 for one in counted]
        values["pq" + suffix] = np.mean([one["iou"] / weight for one, weight in zip(counted, weights, strict=True)])
        values["sq" + suffix] = np.mean([one["iou"] / one["tp"] if one["tp"] else 0 for one in counted])
        values["rq" + suffix] = np.mean([one["tp"] / weight for one, weight in zip(counted, weights, strict=True)])
    return {name: float(value) for name, value in values.items()}


def pixels(image: Segments) -> dict[int, set[int]]:
    flat = image.map.reshape(-1).tolist()
    return {key: {index for index, value in enumerate(flat) if value == key} for key in [0, *image.ids.tolist()]}


def blocks(rng: np.random.Generator) -> NDArray[Any]:
    """A label map of 12 ids and void in coarse blocks, 24x30."""
    return np.kron(rng.choice(np.arange(13) * 1000, (8, 10)), np.ones((3, 3), dtype=int))


def random_pair(rng: np.random.Generator) -> tuple[Segments, Segments]:
    """A target with crowds and void, and a prediction that has part of its blocks and labels wrong."""
    truth = blocks(rng)
    found = np.where(np.kron(rng.random((8, 10)) < 0.3, np.ones((3, 3))) > 0, blocks(rng), truth)
    found[rng.random(found.shape) < 0.1] = 0
    labels = rng.choice([0, 1, 2, 90, 91], 13)
    wrong = np.where(rng.random(13) < 0.2, rng.choice([0, 1, 2, 90, 91], 13), labels)
    pair = []
    for image, of_id in ((found, wrong), (truth, labels)):
        ids = rng.permutation(np.setdiff1d(image, [0]))
        crowd = (ids % 3000 == 0) & (of_id[ids // 1000] < 80)
        pair.append(Segments(image.astype(np.int32), ids, of_id[ids // 1000], crowd))
    return pair[0], pair[1]


def test_agrees_with_the_definition_and_merges() -> None:
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng) for _ in range(12)]
    whole, halves = PanopticQuality(), [PanopticQuality(), PanopticQuality()]
    for index, (prediction, target) in enumerate(pairs):
        whole.update(prediction, target)
        halves[index % 2].update(prediction, target)
    values = whole.compute()
    expected = by_definition(pairs)
    assert 0.2 < expected["pq"] < 0.8
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    merged = pickle.loads(pickle.dumps(halves[1]))  # noqa: S301 - its own
    merged.merge(halves[0])
    assert str(merged.compute()) == str(values)


def test_agrees_with_the_definition_on_photographs(shared: Path) -> None:
    folder = shared / "data/coco_mini/annotations"
    files = json.loads((folder / "panoptic_val2017.json").read_text())["annotations"]
    label = {category.id: index for index, category in enumerate(PANOPTIC)}
    metric, pairs = PanopticQuality(), []
    crowded = [one for one in files if any(info["iscrowd"] for info in one["segments_info"])][:2]
    for one in [*files[:2], *crowded]:
        rgb = np.array(Image.open(folder / "panoptic_val2017" / one["file_name"])).astype(np.int32)[::4, ::4]
        image = rgb @ np.array([1, 256, 65536], dtype=np.int32)
        info = [entry for entry in one["segments_info"] if (image == entry["id"]).any()]
        ids = np.array([entry["id"] for entry in info])
        labels = np.array([label[entry["category_id"]] for entry in info])
        target = Segments(image, ids, labels, np.array([entry["iscrowd"] > 0 for entry in info]))
        shifted = np.roll(image, 3, axis=1)
        pairs.append((Segments(shifted, ids, labels), target))
        metric.update(*pairs[-1])
    expected = by_definition(pairs)
    assert 0.2 < expected["pq"] < 0.9
    assert {name: metric.compute()[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"panoptic quality: the prediction has shape \(1, 2\), the target asks for"):
        score(segments([[1, 1]], {1: THING}), segments([[1], [1]], {1: THING}))


def test_a_segment_without_a_pixel_is_missed_if_annotated_and_nothing_if_predicted() -> None:
    right, longer = segments([[1, 0]], {1: THING}), segments([[1, 0]], {5: THING, 1: THING, 7: STUFF})
    assert score(longer, right)["pq"] == 1
    # Thing 1 found, 5 missed: 1 / (1 + 1/2); the stuff class: 0.
    assert score(right, longer)["pq"] == pytest.approx(2 / 3 / 2)
    assert score(longer, longer)["pq"] == pytest.approx(2 / 3 / 2)


def test_a_segment_that_is_not_listed_is_refused() -> None:
    right, short = segments([[1, 2, 0]], {1: THING, 2: THING}), segments([[1, 2, 0]], {1: THING})
    with pytest.raises(DataError, match="panoptic quality: the prediction's map holds segment 2, which its ids do not"):
        score(short, right)
    with pytest.raises(DataError, match="panoptic quality: the target's map holds segment 2, which its ids do not"):
        score(right, short)


def test_a_label_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DataError, match="panoptic quality: the target holds label 133; allowed are 0 to 132"):
        score(segments([[1]], {1: THING}), segments([[1]], {1: 133}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": np.ones((1, 1))}, "map is of float64; allowed are integers"),
        ({"labels": np.zeros(2, np.int64)}, r"labels are of shape \(2,\); allowed is \(1,\)"),
        ({"ids": np.array([1, 1]), "labels": np.zeros(2, np.int64)}, r"ids are \[1, 1\]; allowed is each once, from 1"),
        ({"crowd": np.zeros(1)}, "crowd is of float64; allowed are bool"),
    ],
)
def test_wrong_types_and_lengths_are_refused(change: dict[str, Any], message: str) -> None:
    right = Segments(np.ones((1, 1), np.int32), np.ones(1, np.int64), np.zeros(1, np.int64))
    with pytest.raises(DataError, match=f"panoptic quality: the target's {message}"):
        score(right, replace(right, **change))
