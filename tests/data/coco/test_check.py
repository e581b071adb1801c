"""Each kind of bad input: the error at first use, and the checker's list."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mfed_ray.data.coco import Coco, Problem, check
from mfed_ray.errors import DataError

Tree = dict[str, Any]


def _first(**changes: Any) -> Callable[[Tree], None]:
    """The file's first annotation, changed."""
    return lambda tree: tree["annotations"][0].update(changes)


def _without(key: str) -> Callable[[Tree], Any]:
    return lambda tree: tree["annotations"][0].pop(key)


def _keypoints(first: list[float]) -> Callable[[Tree], None]:
    """The second annotation's first keypoints, and no others."""
    return lambda tree: tree["annotations"][1].update(keypoints=first + [0] * (51 - len(first)))


WRONG_FILES: list[tuple[str, Callable[[Tree], Any], str, str]] = [
    (
        "instances_train2017",
        lambda tree: tree["images"].append(tree["images"][0] | {"file_name": "000000000003.jpg"}),
        "duplicate image id",
        "image 7: listed more than once",
    ),
    (
        "panoptic_train2017",
        lambda tree: tree["annotations"].append(tree["annotations"][1]),
        "duplicate image id",
        "image 3: annotated more than once",
    ),
    (
        "stuff_train2017",
        _first(image_id=8),
        "missing image",
        "annotation 1 of image 8: the file lists no such image",
    ),
    (
        "panoptic_train2017",
        lambda tree: tree["annotations"].append({"image_id": 8, "file_name": "8.png", "segments_info": []}),
        "missing image",
        "annotation of image 8: the file lists no such image",
    ),
    (
        "instances_train2017",
        _first(category_id=12),
        "unknown category",
        "annotation 70 of image 7: category_id 12 found, allowed are the 80 of COCO, 1 to 90",
    ),
    (
        "person_keypoints_train2017",
        _first(category_id=2),
        "unknown category",
        "annotation 71 of image 7: category_id 2 found, allowed are the 1 of COCO, 1 to 1",
    ),
    (
        "stuff_train2017",
        _first(category_id=91),
        "unknown category",
        "annotation 1 of image 7: category_id 91 found, allowed are the 92 of COCO, 92 to 183",
    ),
    (
        "panoptic_train2017",
        lambda tree: tree["annotations"][0]["segments_info"][2].update(category_id=10**12),
        "unknown category",
        "segment 3 of image 7: category_id 1000000000000 found, allowed are the 133 of COCO, 1 to 200",
    ),
    (
        "instances_train2017",
        lambda tree: tree.update(categories=[{"id": 18, "name": "dog"}, {"id": 1, "name": "cat"}]),
        "wrong category name",
        "category 1: name 'cat' found, must be 'person'",
    ),
    (
        "panoptic_train2017",
        lambda tree: tree.update(categories=[{"id": 184, "name": "tree"}]),
        "wrong category name",
        "category 184: name 'tree' found, must be 'tree-merged'",
    ),
    (
        "stuff_train2017",
        lambda tree: tree.update(categories=[{"id": 92, "name": "banner"}, {"name": "blanket"}]),
        "malformed entry",
        "categories[1]: Object missing required field `id`",
    ),
    (
        "stuff_train2017",
        lambda tree: tree.update(categories=[{"id": 92}]),
        "malformed entry",
        "category 92: Object missing required field `name`",
    ),
    (
        "person_keypoints_train2017",
        _keypoints([13, 11, 3, 14, 11, 0.5, 9, 9, 2, 9, 9, -1]),
        "wrong visibility",
        "annotation 72 of image 7: visibility 3 of nose, 0.5 of left_eye, -1 of left_ear found, must be 0, 1 or 2",
    ),
    (
        "instances_train2017",
        _first(bbox=[24, 3, 9.5, 6]),
        "box outside image",
        "annotation 70 of image 7: bbox [24, 3, 9.5, 6] leaves its image of 32 x 24 pixels (width x height) by more",
    ),
    (
        "instances_train2017",
        _first(bbox=[2, -1.5, 8, 6]),
        "box outside image",
        "annotation 70 of image 7: bbox [2, -1.5, 8, 6] leaves its image of 32 x 24 pixels",
    ),
    (
        "person_keypoints_train2017",
        _first(keypoints=[0] * 50),
        "malformed entry",
        "annotation 71: Expected `array` of length >= 51 - at `$.keypoints`",
    ),
    (
        "instances_train2017",
        _first(bbox=[1, 2, "3", 4]),
        "malformed entry",
        "annotation 70: Expected `float`, got `str` - at `$.bbox[2]`",
    ),
    (
        "instances_train2017",
        _without("id"),
        "malformed entry",
        "annotation of image 7: Object missing required field `id`",
    ),
    (
        "instances_train2017",
        lambda tree: tree["annotations"].append(17),
        "malformed entry",
        "annotations[4]: Expected `object`, got `int`",
    ),
    (
        "stuff_train2017",
        lambda tree: tree["images"][1].update(height=0),
        "malformed entry",
        "image 3: Expected `int` >= 1 - at `$.height`",
    ),
    (
        "stuff_train2017",
        lambda tree: tree.pop("images"),
        "unreadable file",
        "stuff_train2017.json: no COCO annotation file (Object missing required field `images`)",
    ),
]


@pytest.mark.parametrize(("name", "change", "kind", "message"), WRONG_FILES)
def test_wrong_annotation_files(
    folder: Path, edit: Any, name: str, change: Callable[[Tree], Any], kind: str, message: str
) -> None:
    with edit(name) as tree:
        change(tree)
    with pytest.raises(DataError) as caught:
        Coco(folder).image_ids("train")
    assert str(caught.value).startswith(f"{folder}/annotations/{name}.json: ")
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; `mfed data check {folder}` lists all")
    (problem,) = _serious(check(folder))
    assert (problem.kind, problem.file.name) == (kind, f"{name}.json")
    assert message in str(problem)


def _serious(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.kind not in ("zero-size box", "missing category")]


TOLERATED: list[tuple[str, Callable[[Tree], Any], str, str]] = [
    (
        "stuff_train2017",
        lambda tree: tree["annotations"].append(tree["annotations"][0] | {"image_id": 3}),
        "duplicate annotation id",
        "annotation 1 of image 7: the file has an annotation of this id before",
    ),
    (
        "person_keypoints_train2017",
        _keypoints([32, 23, 2, -1, 24, 1, 33, 5, 1, 5, -1.5, 2, 99, 99, 0]),
        "keypoint outside image",
        "annotation 72 of image 7: right_eye [33, 5], left_ear [5, -1.5] outside its image of 32 x 24 pixels",
    ),
    (
        "person_keypoints_train2017",
        lambda tree: tree["annotations"][1].update(num_keypoints=3),
        "num_keypoints disagrees",
        "annotation 72 of image 7: num_keypoints 3 found, but 2 keypoints have a visibility above 0",
    ),
    (
        "panoptic_train2017",
        lambda tree: tree["annotations"].pop(1),
        "unannotated image",
        "image 3: listed, but not annotated",
    ),
    (
        "instances_train2017",
        _first(bbox=[6, 3, 8, 6]),
        "box off its mask",
        "annotation 70 of image 7: box [6, 3, 14, 9] found, its mask reaches from [2, 3, 10, 9] (x1, y1, x2, y2)",
    ),
    (
        "panoptic_train2017",
        lambda tree: tree["annotations"][0]["segments_info"][0].update(bbox=[2, 7, 8, 6]),
        "box off its mask",
        "segment 200 of image 7: box [2, 7, 10, 13] found, its mask reaches from [2, 3, 10, 9]",
    ),
    ("stuff_train2017", _first(area=0), "area disagrees", "annotation 1 of image 7: area 0 found, its mask has 384"),
    (
        "instances_train2017",
        _first(area=480),
        "area disagrees",
        "annotation 70 of image 7: area 480 found, its mask has 48 pixels",
    ),
    (
        "person_keypoints_train2017",
        _keypoints([29, 11, 2, 14, 11, 1]),
        "keypoint far from box",
        "annotation 72 of image 7: nose [29, 11] far out of its box [12, 10, 18, 20]",
    ),
]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "no categories found, 3 are used"),
        ([{"id": 18, "name": "dog"}], "categories that are used are not listed: 1 (person), 90 (toothbrush)"),
    ],
)
def test_categories_that_are_used_and_not_listed(folder: Path, edit: Any, categories: list[Tree], message: str) -> None:
    with edit("instances_train2017") as tree:
        tree["categories"] = categories
    assert Coco(folder).image_ids("train") == ["train2017/7", "train2017/3"]
    (problem,) = [one for one in check(folder) if one.kind == "missing category"]
    assert str(problem) == f"{folder}/annotations/instances_train2017.json: {message}"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("instances_train2017", _first(bbox=[5.5, 3, 8, 6])),  # 3.5 off, allowed are 2 + 8 / 5
        ("instances_train2017", _first(area=96)),
        ("person_keypoints_train2017", _keypoints([28, 11, 2])),
        ("person_keypoints_train2017", _keypoints([13, 11, 2, 31, 11, 1])),  # hidden, and not all are far
    ],
)
def test_small_disagreements_are_no_problems(folder: Path, edit: Any, name: str, change: Callable[[Tree], Any]) -> None:
    with edit(name) as tree:
        change(tree)
    assert [problem.kind for problem in check(folder)] == ["zero-size box"]


@pytest.mark.parametrize(("name", "change", "kind", "message"), TOLERATED)
def test_what_is_named_and_not_refused(
    folder: Path, edit: Any, name: str, change: Callable[[Tree], Any], kind: str, message: str
) -> None:
    with edit(name) as tree:
        change(tree)
    assert Coco(folder).image_ids("train") == ["train2017/7", "train2017/3"]
    (problem,) = _serious(check(folder))
    assert (problem.kind, problem.file.name) == (kind, f"{name}.json")
    assert str(problem).startswith(f"{folder}/annotations/{name}.json: {message}")


def test_the_right_counts_and_an_unused_category_are_no_problems(folder: Path, edit: Any) -> None:
    with edit("person_keypoints_train2017") as tree:
        tree["annotations"][1]["num_keypoints"] = 2
        tree["categories"] = [{"id": 1, "name": "person"}, {"id": 12, "name": "street sign"}]
    with edit("panoptic_train2017") as tree:  # whose segments are numbered anew in each image
        tree["annotations"][1]["segments_info"] = [tree["annotations"][0]["segments_info"][2]]
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[20:, :20, 0] = 3
    Image.fromarray(pixels).save(folder / "annotations/panoptic_train2017/000000000003.png")
    assert _serious(check(folder)) == []


WRONG_MASKS: list[tuple[Any, str]] = [
    ([[2, 3, 10, 3]], "polygon of 4 numbers found, must be x and y of 3 points or more"),
    ([[2, 3, 10, 3, 10, 9, 2]], "polygon of 7 numbers found"),
    ([[2, 3, 10, 3, 1e9, 9]], "polygon reaches 1e+09, far out of its image"),
    ([], "segmentation has no polygon, it must have at least one"),
    ({"size": [24, 32], "counts": "0"}, "run lengths add up to 0, must be 0 or more each and 768 together"),
    ({"size": [24, 32], "counts": "P"}, "run lengths are a broken string"),
    ({"size": [24, 32], "counts": [700, 67]}, "run lengths add up to 767, must be 0 or more each and 768 together"),
    (
        {"size": [32, 24], "counts": [768]},
        "run lengths are of [32, 24] pixels (height, width), their image of [24, 32]",
    ),
    ({"size": [24, 32]}, "neither polygons nor run lengths (Object missing required field `counts`)"),
    ("none", "neither polygons nor run lengths (Expected `object | array`, got `str`)"),
]


@pytest.mark.parametrize(("mask", "message"), WRONG_MASKS)
def test_wrong_masks(folder: Path, edit: Any, mask: Any, message: str) -> None:
    with edit("instances_train2017") as tree:
        tree["annotations"][0]["segmentation"] = mask
    place = f"{folder}/annotations/instances_train2017.json: annotation 70 of image 7: "
    dataset = Coco(folder)
    assert dataset.trainable("train2017/7", "instance_segmentation"), "masks are looked at when read"
    with pytest.raises(DataError) as caught:
        dataset.read("train2017/7", ["instance_segmentation"])
    assert str(caught.value).startswith(place)
    assert message in str(caught.value)
    (problem,) = _serious(check(folder))
    assert problem.kind == "broken mask"
    assert str(problem).startswith(place)
    assert message in problem.message


def test_the_error_counts_the_other_problems(folder: Path, edit: Any) -> None:
    with edit("stuff_train2017") as tree:
        tree["annotations"][0]["category_id"] = 1
        tree["annotations"][1]["image_id"] = 4
        tree["images"].append(tree["images"][0])
    with pytest.raises(DataError, match=r"image 7: listed more than once \(and 2 more\); `mfed data check "):
        Coco(folder).image_ids("train")


def test_masks_of_every_annotation_file_are_checked(folder: Path, edit: Any) -> None:
    for name in ("instances_train2017", "person_keypoints_train2017", "stuff_train2017", "instances_val2017"):
        with edit(name) as tree:
            tree["annotations"][0]["segmentation"] = []
    files = [problem.file.stem for problem in check(folder) if problem.kind == "broken mask"]
    assert files == ["instances_train2017", "person_keypoints_train2017", "stuff_train2017", "instances_val2017"]


def _recolour(ids: np.ndarray) -> np.ndarray:
    ids[3:9, 2:10] = 201
    return ids


def _drop(ids: np.ndarray) -> np.ndarray:
    return np.where(ids == 3, 0, ids)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (_drop, ["lacks ids that panoptic_train2017.json has: 3"]),
        (
            _recolour,
            ["has ids that panoptic_train2017.json has not: 201", "lacks ids that panoptic_train2017.json has: 200"],
        ),
        (lambda ids: ids[:, ::2], ["is 16 x 24 pixels (width x height), but 32 x 24 as panoptic_train2017.json says"]),
    ],
)
def test_wrong_panoptic_pngs(folder: Path, change: Callable[[np.ndarray], np.ndarray], messages: list[str]) -> None:
    path = folder / "annotations/panoptic_train2017/000000000007.png"
    ids = change(np.array(Image.open(path)).astype(int) @ [1, 256, 65536])
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)).save(path)
    with pytest.raises(DataError) as caught:
        Coco(folder).read("train2017/7", ["panoptic_segmentation"])
    assert str(caught.value).startswith(f"{path}: image 7: {messages[0]}")
    problems = _serious(check(folder))
    kind = "wrong image size" if ids.shape == (24, 16) else "panoptic ids disagree"
    assert [(problem.kind, problem.message) for problem in problems] == [(kind, message) for message in messages]


def test_segments_twice_and_wrong_areas(folder: Path, edit: Any) -> None:
    with edit("panoptic_train2017") as tree:
        segments = tree["annotations"][0]["segments_info"]
        segments[0]["area"] = 50
        segments.append(segments[2])
    with pytest.raises(DataError, match=r"has ids that panoptic_train2017.json has more than once: 3;"):
        Coco(folder).read("train2017/7", ["panoptic_segmentation"])
    twice, area = _serious(check(folder))
    assert twice.kind == "panoptic ids disagree"
    assert (area.kind, area.id) == ("panoptic area disagrees", "segment 200 of image 7")
    assert area.message == "area 50 found, its PNG has 48 pixels of it"


def test_missing_and_unreadable_pngs(folder: Path) -> None:
    path = folder / "annotations/panoptic_train2017/000000000007.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"image 7: .*000000000007.png: cannot be decoded as an image"):
        Coco(folder).read("train2017/7", ["panoptic_segmentation"])
    assert [problem.kind for problem in _serious(check(folder))] == ["unreadable file"]
    path.unlink()
    with pytest.raises(DataError, match=r"image 7: .*000000000007.png: file not found"):
        Coco(folder).read("train2017/7", ["panoptic_segmentation"])
    (problem,) = _serious(check(folder))
    assert (problem.kind, problem.file.name, problem.id) == ("missing PNG", "panoptic_train2017.json", "image 7")


def test_image_files_are_checked_once_each(folder: Path) -> None:
    (folder / "train2017/000000000003.jpg").unlink()
    (folder / "train2017/000000000007.jpg").write_bytes(b"not a picture")
    Image.new("L", (32, 25)).save(folder / "val2017/000000000005.jpg")
    found = [(problem.kind, problem.file.name, problem.id) for problem in _serious(check(folder))]
    assert found == [
        ("missing image file", "000000000003.jpg", "image 3"),
        ("unreadable file", "000000000007.jpg", "image 7"),
        ("wrong image size", "000000000005.jpg", "image 5"),
    ]


@pytest.mark.parametrize("name", ["train2017/000000000007.jpg", "val2017/000000000005.jpg"])
def test_an_image_cut_short(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-60])
    with Image.open(path) as image:
        assert image.size == (32, 24), "its header is whole"
    (problem,) = _serious(check(folder))
    assert (problem.kind, problem.file, problem.id) == ("unreadable file", path, f"image {int(path.stem)}")
    assert problem.message.startswith("cannot be decoded as an image (image file is truncated")
    with pytest.raises(DataError, match=r"jpg: cannot be decoded as an image \(image file is truncated"):
        Coco(folder).read(name.removesuffix(".jpg"), ["instance_segmentation"])


def test_what_may_not_be_looked_at_hides_nothing_else(folder: Path, edit: Any, hide: Any) -> None:
    with edit("stuff_train2017") as tree:
        tree["annotations"][0]["category_id"] = 1
    for name in (
        "annotations/person_keypoints_train2017.json",
        "annotations/panoptic_train2017",
        "val2017",
        "train2017/000000000007.jpg",
    ):
        hide(folder / name)
    found = _serious(check(folder))
    assert [(problem.kind, problem.file.name, problem.id) for problem in found] == [
        ("unreadable file", "000000000007.jpg", "image 7"),
        ("unreadable file", "person_keypoints_train2017.json", ""),
        ("unknown category", "stuff_train2017.json", "annotation 1 of image 7"),
        ("unreadable file", "panoptic_train2017.json", "image 3"),
        ("unreadable file", "panoptic_train2017.json", "image 7"),
        ("unreadable file", "000000000005.jpg", "image 5"),
    ]
    assert all("File name too long" in problem.message for problem in found if problem.kind == "unreadable file")


def test_a_folder_in_the_place_of_a_file_and_a_file_in_the_place_of_a_folder(folder: Path) -> None:
    shutil.rmtree(folder / "val2017")
    (folder / "val2017").write_text("")
    (folder / "train2017/000000000007.jpg").unlink()
    (folder / "train2017/000000000007.jpg").mkdir()
    shutil.rmtree(folder / "annotations/panoptic_train2017")
    (folder / "annotations/panoptic_train2017").symlink_to("panoptic_train2017")  # a loop
    found = [(problem.kind, problem.id) for problem in _serious(check(folder))]
    assert found == [
        ("missing image file", "image 7"),
        ("missing PNG", "image 3"),
        ("missing PNG", "image 7"),
        ("missing image file", "image 5"),
    ]


def test_broken_json_does_not_hide_the_other_files(folder: Path, edit: Any) -> None:
    path = folder / "annotations/instances_train2017.json"
    path.write_bytes(path.read_bytes()[:-9])
    with edit("stuff_train2017") as tree:
        tree["annotations"][0]["category_id"] = 1
    with pytest.raises(
        DataError, match=r"instances_train2017.json: no COCO annotation file \(Input data was truncated"
    ):
        Coco(folder).image_ids("train")
    assert [problem.kind for problem in check(folder)] == ["unreadable file", "unknown category"]
    path.write_bytes(b"\xff\xfe")
    assert [problem.kind for problem in check(folder)] == ["unreadable file", "unknown category"]


def test_only_zero_size_boxes_are_tolerated(folder: Path, edit: Any) -> None:
    (problem,) = check(folder)
    assert (problem.kind, problem.id) == ("zero-size box", "annotation 73 of image 7")
    assert problem.message == "bbox [5, 5, 0, 3] found, width and height must be above 0"
    with edit("instances_train2017") as tree:
        tree["annotations"][0]["bbox"] = [2, 3, 8, -1]
        tree["annotations"][1]["bbox"] = [-1, -1, 34, 26]  # a pixel too far on each side
    found = [(one.kind, one.id.split()[1]) for one in check(folder)]
    assert found == [("zero-size box", "70"), ("zero-size box", "73"), ("box off its mask", "71")]
    assert Coco(folder).image_ids("train") == ["train2017/7", "train2017/3"]


def test_progress_and_roots(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "val2017")
    seen: list[tuple[str, int, int]] = []
    check(folder, lambda path, done, total: seen.append((path.stem, done, total)))
    names = [f"{name}_train2017" for name in ("instances", "person_keypoints", "stuff", "panoptic")]
    assert seen == [(name, done, 2) for name in names for done in (1, 2)] + [("instances_val2017", 1, 1)]
    with pytest.raises(DataError, match="nowhere: no such dataset folder"):
        check(tmp_path / "nowhere")


def test_real_coco_is_clean(shared: Path) -> None:
    assert check(shared / "data/coco_mini") == []
