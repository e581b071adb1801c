import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from mfed_ray.coco_categories import KEYPOINTS, MERGED_STUFF, PANOPTIC, STUFF, THINGS
from mfed_ray.data.generated import COCO_FORMAT_VERSION, generate_coco, generate_pascal_context
from mfed_ray.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decode

KINDS = ("instances", "person_keypoints", "stuff", "panoptic")
SPLITS = ("train2017", "val2017")
OTHER = 183
MERGED = {one.id: one.name.removesuffix("-merged") for one in MERGED_STUFF}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco") / "set"
    generate_coco(root, images=24, size=48, seed=0)
    return root


def _json(root: Path, kind: str, split: str) -> Any:
    return json.loads((root / "annotations" / f"{kind}_{split}.json").read_text())


def _panoptic(root: Path, split: str, image_id: int) -> NDArray[np.int64]:
    png = np.asarray(Image.open(root / f"annotations/panoptic_{split}/{image_id:012d}.png"), np.int64)
    assert png.shape == (48, 48, 3)
    ids: NDArray[np.int64] = png @ np.array([1, 256, 65536])
    return ids


def _pixelmap(root: Path, split: str, image_id: int) -> NDArray[np.int64]:
    with Image.open(root / f"annotations/stuff_{split}_pixelmaps/{image_id:012d}.png") as png:
        assert png.mode == "L", "as the real ones are"
        return np.asarray(png, np.int64)


def _tight(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.nonzero(mask)
    top, left = int(rows.min()), int(columns.min())
    return [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_files_and_ids(coco: Path) -> None:
    seen: Counter[int] = Counter()
    for split, count in zip(SPLITS, (18, 6), strict=True):
        images = _json(coco, "instances", split)["images"]
        seen.update(one["id"] for one in images)
        assert [one["file_name"] for one in images] == sorted(path.name for path in (coco / split).iterdir())
        assert len(images) == count
        for one in images:
            assert one["file_name"] == f"{one['id']:012d}.jpg"
            with Image.open(coco / split / one["file_name"]) as picture:
                assert picture.size == (one["width"], one["height"]) == (48, 48)
        for kind in KINDS:
            content = _json(coco, kind, split)
            assert set(content) == {"info", "licenses", "images", "annotations", "categories"}
            assert content["images"] == images
    assert seen == Counter(range(1, 25)), "each image once"
    ids = Counter(
        one["id"]
        for split in SPLITS
        for kind in ("instances", "stuff")
        for one in _json(coco, kind, split)["annotations"]
    )
    assert set(ids.values()) == {1}


def test_categories_are_cocos(coco: Path) -> None:
    for kind, expected in (
        ("instances", THINGS),
        ("person_keypoints", THINGS[:1]),
        ("stuff", STUFF),
        ("panoptic", PANOPTIC),
    ):
        found = _json(coco, kind, "val2017")["categories"]
        assert [(one["id"], one["name"], one["supercategory"]) for one in found] == list(expected)
    panoptic = _json(coco, "panoptic", "val2017")["categories"]
    assert [one["isthing"] for one in panoptic] == [1] * 80 + [0] * 53
    assert len({tuple(one["color"]) for one in panoptic}) == 133
    assert all(0 <= part <= 255 for one in panoptic for part in one["color"])


def test_person_category_is_the_real_one(coco: Path, shared: Path) -> None:
    real = json.loads((shared / "data/coco_mini/annotations/person_keypoints_val2017.json").read_text())
    assert _json(coco, "person_keypoints", "val2017")["categories"] == real["categories"]


@pytest.mark.parametrize("split", SPLITS)
def test_instances_are_the_panoptic_things(coco: Path, split: str) -> None:
    instances = COCO(str(coco / f"annotations/instances_{split}.json"))
    for entry in _json(coco, "panoptic", split)["annotations"]:
        segments, map_ = entry["segments_info"], _panoptic(coco, split, entry["image_id"])
        assert entry["file_name"] == f"{entry['image_id']:012d}.png"
        assert {one["id"] for one in segments} == set(np.unique(map_)) - {0}
        assert len({one["id"] for one in segments}) == len(segments)
        for one in segments:
            assert (one["area"], one["bbox"]) == (np.count_nonzero(map_ == one["id"]), _tight(map_ == one["id"]))
        things = [one for one in segments if one["category_id"] <= 90]
        annotations = instances.loadAnns(instances.getAnnIds([entry["image_id"]]))
        assert len(annotations) == len(things) > 0
        for thing, annotation in zip(things, annotations, strict=True):
            assert {key: annotation[key] for key in thing if key != "id"} == {
                key: value for key, value in thing.items() if key != "id"
            }
            np.testing.assert_array_equal(instances.annToMask(annotation), map_ == thing["id"])
            assert isinstance(annotation["segmentation"], dict) == (annotation["iscrowd"] == 1)


@pytest.mark.parametrize("split", SPLITS)
def test_stuff_is_the_pixelmap_and_the_panoptic_stuff(coco: Path, split: str) -> None:
    stuff = COCO(str(coco / f"annotations/stuff_{split}.json"))
    for entry in _json(coco, "panoptic", split)["annotations"]:
        pixels, map_ = _pixelmap(coco, split, entry["image_id"]), _panoptic(coco, split, entry["image_id"])
        annotations = stuff.loadAnns(stuff.getAnnIds([entry["image_id"]]))
        assert [one["category_id"] for one in annotations] == sorted(set(np.unique(pixels)) - {0})
        for one in annotations:
            mask = pixels == one["category_id"]
            np.testing.assert_array_equal(stuff.annToMask(one), mask)
            assert (one["area"], one["bbox"], one["iscrowd"]) == (mask.sum(), _tight(mask), 0)
        np.testing.assert_array_equal(pixels == 0, map_ == 0)
        things = [one["id"] for one in entry["segments_info"] if one["category_id"] <= 90]
        np.testing.assert_array_equal(pixels == OTHER, np.isin(map_, things))
        merged = {one["id"]: MERGED[one["category_id"]] for one in entry["segments_info"] if one["category_id"] > 90}
        for segment, name in merged.items():
            (category,) = np.unique(pixels[map_ == segment])
            assert STUFF[category - STUFF[0].id].name == name


@pytest.mark.parametrize("split", SPLITS)
def test_keypoints_are_on_their_people(coco: Path, split: str) -> None:
    instances = COCO(str(coco / f"annotations/instances_{split}.json"))
    annotations = _json(coco, "person_keypoints", split)["annotations"]
    people = [one for one in instances.dataset["annotations"] if one["category_id"] == 1]
    assert [one["id"] for one in annotations] == [one["id"] for one in people]
    inside, labelled = 0, 0
    for person, one in zip(people, annotations, strict=True):
        assert {key: one[key] for key in person} == person
        points = np.array(one["keypoints"]).reshape(len(KEYPOINTS), 3)
        assert one["num_keypoints"] == np.count_nonzero(points[:, 2])
        assert not points[points[:, 2] == 0].any()
        if person["iscrowd"]:
            assert one["num_keypoints"] == 0
            continue
        mask, (x, y, width, height) = instances.annToMask(person), person["bbox"]
        for column, row, visibility in points[points[:, 2] > 0]:
            labelled += 1
            inside += x <= column < x + width and y <= row < y + height
            assert visibility == 1 or mask[row, column]
    assert inside > 0.75 * labelled > 0


def test_keypoints_of_all_kinds_of_visibility_occur(coco: Path) -> None:
    counts = Counter(
        visibility
        for split in SPLITS
        for one in _json(coco, "person_keypoints", split)["annotations"]
        if not one["iscrowd"]
        for visibility in one["keypoints"][2::3]
    )
    assert min(counts[0], counts[1]) > 0
    assert counts[2] > 0.4 * counts.total()


def test_people_are_in_both_splits_and_crowds_occur(coco: Path) -> None:
    for split, count in zip(SPLITS, (9, 3), strict=True):
        annotations = _json(coco, "person_keypoints", split)["annotations"]
        assert len({one["image_id"] for one in annotations}) == count
    crowds = [one for split in SPLITS for one in _json(coco, "instances", split)["annotations"] if one["iscrowd"]]
    assert crowds
    for one in crowds:
        assert sum(one["segmentation"]["counts"]) == 48 * 48
        assert sum(one["segmentation"]["counts"][1::2]) == one["area"]


def test_same_parameters_same_bytes_in_any_number_of_processes(tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        generate_coco(tmp_path / name, images=4, size=32, seed=5, processes=processes)
    generate_coco(tmp_path / "other", images=4, size=32, seed=6)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two") != _tree(tmp_path / "other")
    assert len(_tree(tmp_path / "one")) == 4 * 3 + 8 + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "two"]


def test_progress_and_record(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_coco(tmp_path / "set", images=4, size=32, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads((tmp_path / "set/generated.json").read_text()) == {
        "images": 4, "size": 32, "seed": 0, "val_fraction": 0.25, "format_version": COCO_FORMAT_VERSION,
        "layout": "coco",
    }  # fmt: skip


def test_what_is_there_is_kept_or_refused(coco: Path, generated: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in coco.rglob("*")}
    generate_coco(coco, images=24, size=48, seed=0)
    with pytest.raises(DataError, match=r"was generated with size 48 \(asked for: 64\), nothing was overwritten"):
        generate_coco(coco, images=24, size=64, seed=0)
    with pytest.raises(DataError, match=r"was generated with layout coco \(asked for: pascal_context\), nothing"):
        generate_pascal_context(coco, images=24, size=48, seed=0)
    with pytest.raises(DataError, match=r"was generated with layout pascal_context \(asked for: coco\), nothing"):
        generate_coco(generated, images=8, size=48, seed=3)
    assert {path: path.stat().st_mtime_ns for path in coco.rglob("*")} == before


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt(total)

    with pytest.raises(KeyboardInterrupt):
        generate_coco(tmp_path / "set", images=4, size=32, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 3}, "images: 3 found, must be at least 4"),
        ({"processes": 0}, "processes: 0 found, must be at least 1"),
    ],
)
def test_parameters_are_checked(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_coco(tmp_path / "set", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()
