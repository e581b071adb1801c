import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mfed_ray.annotations import Objects, Segments, Target
from mfed_ray.coco_categories import PANOPTIC, THINGS
from mfed_ray.data.coco import Coco
from mfed_ray.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decode
TASKS = ["instance_segmentation", "keypoint_detection", "stuff_segmentation", "panoptic_segmentation"]


def _objects(target: Target) -> Objects:
    assert isinstance(target, Objects)
    return target


def _segments(target: Target) -> Segments:
    assert isinstance(target, Segments)
    return target


def test_images_are_listed_by_split_in_the_files_order(folder: Path) -> None:
    dataset = Coco(folder)
    assert dataset.tasks == set(TASKS)
    assert dataset.image_ids("train") == ["train2017/7", "train2017/3"]
    assert dataset.image_ids("val") == ["val2017/5"]


def test_images_of_all_annotation_files_are_listed(folder: Path, edit: Any) -> None:
    with edit("stuff_train2017") as tree:
        tree["images"] = [tree["images"][0] | {"id": 9}, *tree["images"], tree["images"][0] | {"id": 1}]
    dataset = Coco(folder)
    assert dataset.image_ids("train") == [f"train2017/{number}" for number in (7, 3, 9, 1)]
    assert [dataset.usable("train2017/9", task) for task in TASKS] == [False, False, True, False]
    assert dataset.dominant_class("train2017/9") == 0


def test_usable_says_whether_the_file_lists_the_image(folder: Path) -> None:
    dataset = Coco(folder)
    assert all(dataset.usable(image, task) for image in ("train2017/7", "train2017/3") for task in TASKS)
    assert [dataset.usable("val2017/5", task) for task in TASKS] == [True, False, False, False]
    for unknown in ("train2017/5", "test2017/7", "7", "train2017/seven"):
        assert not dataset.usable(unknown, "instance_segmentation"), unknown
        assert not dataset.trainable(unknown, "instance_segmentation"), unknown


def test_an_image_without_a_panoptic_png_has_no_target(folder: Path, edit: Any) -> None:
    with edit("panoptic_train2017") as tree:
        del tree["annotations"][1]
    assert Coco(folder).usable("train2017/7", "panoptic_segmentation")
    assert not Coco(folder).usable("train2017/3", "panoptic_segmentation")


def test_trainable_says_whether_there_is_something_to_learn(folder: Path, edit: Any) -> None:
    dataset = Coco(folder)
    assert all(dataset.trainable("train2017/7", task) for task in TASKS)
    assert not any(dataset.trainable("train2017/3", task) for task in TASKS)
    with edit("instances_train2017") as tree:
        tree["annotations"] = tree["annotations"][1::2]  # the crowd, and the box without width
    with edit("person_keypoints_train2017") as tree:
        tree["annotations"][1]["keypoints"][2::3] = [0] * 17
    assert not Coco(folder).trainable("train2017/7", "instance_segmentation")
    assert not Coco(folder).trainable("train2017/7", "keypoint_detection")


def test_dominant_class_is_the_largest_thing(folder: Path) -> None:
    dataset = Coco(folder)
    assert dataset.dominant_class("train2017/7") == 1, "60 pixels of a person, 48 of a dog"
    assert dataset.dominant_class("train2017/3") == 0
    assert dataset.dominant_class("val2017/5") == 22, "a bear"
    (folder / "annotations/instances_train2017.json").unlink()
    assert Coco(folder).dominant_class("train2017/7") == 17, "panoptic: a dog of 48 pixels, a crowd, stuff of 80 pixels"
    (folder / "annotations/panoptic_train2017.json").unlink()
    assert Coco(folder).dominant_class("train2017/7") == 1
    with pytest.raises(DataError, match="no annotation file lists an image 'train2017/8'"):
        Coco(folder).dominant_class("train2017/8")


def test_instances_by_hand(folder: Path) -> None:
    objects = _objects(Coco(folder).read("train2017/7", TASKS[:1]).targets["instance_segmentation"])
    assert (objects.size, objects.image) == ((24, 32), 7)
    assert objects.boxes.tolist() == [[2, 3, 10, 9], [20, 0, 22, 24], [12, 10, 18, 20], [5, 5, 5, 8]]
    assert objects.labels.tolist() == [17, 1, 1, 80]
    assert objects.areas.tolist() == [48, 48, 60, 0]
    assert objects.crowd.tolist() == [False, True, False, False]
    assert objects.keypoints is None
    assert objects.masks is not None
    expected = np.zeros((4, 24, 32), np.uint8)
    expected[0, 3:9, 2:10] = expected[1, :, 20:22] = expected[2, 10:20, 12:18] = 1
    np.testing.assert_array_equal(objects.masks, expected)
    types = [array.dtype for array in (objects.boxes, objects.labels, objects.areas, objects.crowd, objects.masks)]
    assert types == [np.float32, np.int64, np.float32, np.bool_, np.uint8]


def test_keypoints_by_hand(folder: Path) -> None:
    people = _objects(Coco(folder).read("train2017/7", TASKS[1:2]).targets["keypoint_detection"])
    assert people.masks is None
    assert people.labels.tolist() == [1, 1]
    assert people.crowd.tolist() == [True, False]
    assert people.areas.tolist() == [48, 60]
    assert people.keypoints is not None
    assert people.keypoints.dtype == np.float32
    expected = np.zeros((2, 17, 3))
    expected[1, :2] = [(13.5, 11.5, 2), (14.5, 11.5, 1)]
    assert people.keypoints.tolist() == expected.tolist()


def test_unlabelled_keypoints_are_zero(folder: Path, edit: Any) -> None:
    with edit("person_keypoints_train2017") as tree:
        tree["annotations"][1]["keypoints"][:3] = [8, 9, 0]
    people = _objects(Coco(folder).read("train2017/7", TASKS[1:2]).targets["keypoint_detection"])
    assert people.keypoints is not None
    assert people.keypoints[1, :2].tolist() == [[0, 0, 0], [14.5, 11.5, 1]]


def test_stuff_by_hand(folder: Path) -> None:
    stuff = Coco(folder).read("train2017/7", ["stuff_segmentation"]).targets["stuff_segmentation"]
    assert isinstance(stuff, np.ndarray)
    assert stuff.dtype == np.uint8
    np.testing.assert_array_equal(stuff, np.repeat([0, 91, 255], [12, 8, 4])[:, None].repeat(32, axis=1))


def test_panoptic_by_hand(folder: Path) -> None:
    segments = _segments(Coco(folder).read("train2017/7", TASKS[3:]).targets["panoptic_segmentation"])
    expected = np.zeros((24, 32), np.int32)
    expected[3:9, 2:10], expected[:, 20:22], expected[20:, :20] = 200, 1 + 256 + 2 * 65536, 3
    np.testing.assert_array_equal(segments.map, expected)
    assert segments.map.dtype == np.int32
    assert segments.ids.tolist() == [200, 131329, 3]
    assert segments.labels.tolist() == [16, 0, 132]
    assert segments.crowd is not None
    assert segments.crowd.tolist() == [False, True, False]


def test_an_image_without_annotations(folder: Path) -> None:
    sample = Coco(folder).read("train2017/3", TASKS)
    objects, people, stuff, panoptic = (sample.targets[task] for task in TASKS)
    assert _objects(objects).boxes.shape == (0, 4)
    masks, keypoints = _objects(objects).masks, _objects(people).keypoints
    assert masks is not None
    assert masks.shape == (0, 24, 32)
    assert keypoints is not None
    assert keypoints.shape == (0, 17, 3)
    assert np.all(np.asarray(stuff) == 255)
    assert not _segments(panoptic).map.any()
    assert _segments(panoptic).ids.shape == (0,)


def test_grey_images_become_rgb_and_only_what_is_asked_for_is_read(folder: Path) -> None:
    sample = Coco(folder).read("val2017/5", [])
    assert (sample.image_id, sample.image.shape, sample.targets) == ("val2017/5", (24, 32, 3), {})
    np.testing.assert_array_equal(sample.image[..., 0], sample.image[..., 2])
    shutil.rmtree(folder / "annotations/panoptic_train2017")
    assert set(Coco(folder).read("train2017/7", ["stuff_segmentation"]).targets) == {"stuff_segmentation"}


def test_instances_survive_pickling(folder: Path) -> None:
    dataset = Coco(str(folder))
    dataset.read("train2017/7", TASKS)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 300 + len(str(folder)), "only the path"
    copy = pickle.loads(pickled)  # noqa: S301
    assert (copy.root, copy.tasks) == (folder, set(TASKS))
    assert copy.image_ids("train") == dataset.image_ids("train")


def test_roots_splits_tasks_and_images_are_checked(folder: Path, edit: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such dataset folder"):
        Coco(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"xxx: cannot be looked at \(File name too long\)"):
        Coco(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match=r"no annotation file of any task, looked for: instances_train2017.json, "):
        Coco(folder / "train2017")
    dataset = Coco(folder)
    with pytest.raises(DataError, match=r"no annotation file for split 'test', this dataset has: train, val"):
        dataset.image_ids("test")
    with pytest.raises(DataError, match=r"has no task 'saliency', it has: instance_segmentation, keypoint_"):
        dataset.usable("train2017/7", "saliency")
    with pytest.raises(DataError, match=r"small: keypoint_detection has no image 'val2017/5'"):
        dataset.read("val2017/5", ["keypoint_detection"])
    with edit("instances_val2017") as tree:
        tree["images"] = tree["annotations"] = []
    with pytest.raises(DataError, match=r"split 'val' is empty, an annotation file must list at least one image"):
        Coco(folder).image_ids("val")


def test_image_files_are_checked(folder: Path) -> None:
    path = folder / "train2017/000000000007.jpg"
    Image.new("RGB", (24, 32)).save(path)
    message = r"000000000007.jpg: image 7: is 24 x 32 pixels \(width x height\), but 32 x 24 as instances_train2017"
    with pytest.raises(DataError, match=message):
        Coco(folder).read("train2017/7", ["instance_segmentation"])
    path.unlink()
    with pytest.raises(DataError, match=r"train2017/000000000007.jpg: file not found"):
        Coco(folder).read("train2017/7", [])


def test_an_annotations_folder_that_may_not_be_entered(folder: Path, hide: Any) -> None:
    hide(folder / "annotations")
    dataset = Coco(folder)
    message = r"annotations/instances_train2017.json: cannot be read \(File name too long\)"
    with pytest.raises(DataError, match=message):
        dataset.image_ids("train")
    with pytest.raises(DataError, match=message):
        dataset.usable("train2017/7", "instance_segmentation")


def test_pngs_that_may_not_be_looked_at(folder: Path, hide: Any) -> None:
    hide(folder / "annotations/panoptic_train2017")
    with pytest.raises(DataError, match=r"image 7: .*000000000007.png: .*File name too long"):
        Coco(folder).read("train2017/7", ["panoptic_segmentation"])


def test_nothing_is_written_into_the_data_folder(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    Coco(folder).read("train2017/7", TASKS)
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


@pytest.fixture
def mini(shared: Path) -> Path:
    return shared / "data/coco_mini"


def test_real_coco_counts(mini: Path) -> None:
    dataset = Coco(mini)
    train, val = dataset.image_ids("train"), dataset.image_ids("val")
    assert (len(train), train[:2], len(val), val[:2]) == (
        100,
        ["train2017/9", "train2017/25"],
        50,
        ["val2017/139", "val2017/285"],
    )
    trainable = [sum(dataset.trainable(image, task) for image in train) for task in TASKS]
    assert trainable == [98, 41, 100, 100]
    assert all(dataset.usable(image, task) for image in [*train, *val] for task in TASKS)


@pytest.mark.parametrize("folder_name", ["train2017", "val2017"])
def test_real_objects_are_those_of_pycocotools(
    mini: Path, folder_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Coco(mini)
    reference = {
        name: COCO(str(mini / f"annotations/{name}_{folder_name}.json"))
        for name in ("instances", "person_keypoints", "stuff")
    }
    capsys.readouterr()
    crowded = [one["image_id"] for one in reference["instances"].anns.values() if one["iscrowd"]]
    for number in [*sorted(reference["instances"].imgs)[:4], *crowded[:2]]:
        sample = dataset.read(f"{folder_name}/{number}", TASKS[:3])
        _compare_instances(reference["instances"], number, _objects(sample.targets["instance_segmentation"]))
        _compare_people(reference["person_keypoints"], number, _objects(sample.targets["keypoint_detection"]))
        stuff = np.full(sample.image.shape[:2], 255)
        for one in reference["stuff"].imgToAnns[number]:
            stuff[reference["stuff"].annToMask(one) > 0] = one["category_id"] - 92
        np.testing.assert_array_equal(sample.targets["stuff_segmentation"], stuff)


def _compare_instances(reference: COCO, number: int, objects: Objects) -> None:
    found = reference.imgToAnns[number]
    assert [THINGS[label - 1].id for label in objects.labels] == [one["category_id"] for one in found]
    assert objects.crowd.tolist() == [bool(one["iscrowd"]) for one in found]
    assert objects.areas.tolist() == pytest.approx([one["area"] for one in found])
    for box, one in zip(objects.boxes, found, strict=True):
        x, y, width, height = one["bbox"]
        assert box.tolist() == pytest.approx([x, y, x + width, y + height], abs=1e-3)
    assert objects.masks is not None
    for mask, one in zip(objects.masks, found, strict=True):
        np.testing.assert_array_equal(mask, reference.annToMask(one))


def _compare_people(reference: COCO, number: int, people: Objects) -> None:
    found = reference.imgToAnns[number]
    assert people.keypoints is not None
    for points, one in zip(people.keypoints, found, strict=True):
        said = np.array(one["keypoints"], float).reshape(17, 3)
        said[:, :2] += 0.5
        said[said[:, 2] == 0] = 0
        np.testing.assert_array_equal(points, said)
        assert (points[:, 2] > 0).sum() == one["num_keypoints"]


@pytest.mark.parametrize("image", ["train2017/9", "val2017/139", "val2017/285"])
def test_real_panoptic_is_that_of_the_png(mini: Path, image: str) -> None:
    folder_name, number = image.split("/")
    segments = _segments(Coco(mini).read(image, TASKS[3:]).targets["panoptic_segmentation"])
    path = mini / f"annotations/panoptic_{folder_name}"
    said = next(one for one in _panoptic(mini, folder_name) if one["image_id"] == int(number))
    red, green, blue = np.moveaxis(np.array(Image.open(path / said["file_name"])).astype(int), 2, 0)
    np.testing.assert_array_equal(segments.map, red + 256 * green + 65536 * blue)
    for info, one, label in zip(said["segments_info"], segments.ids, segments.labels, strict=True):
        assert (info["id"], info["category_id"]) == (one, PANOPTIC[label].id)
        assert info["area"] == (segments.map == one).sum()


def _panoptic(mini: Path, folder_name: str) -> list[dict[str, Any]]:
    content = json.loads((mini / f"annotations/panoptic_{folder_name}.json").read_text())
    return list(content["annotations"])
