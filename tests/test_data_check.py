"""``mfed data check``: every problem of a folder at once, with its file and id, and how many of each kind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mfed_ray.cli import main
from mfed_ray.data.check import check, contents
from mfed_ray.driver import run
from mfed_ray.errors import DataError
from mfed_ray.experiment import Experiment

Json = dict[str, Any]


@pytest.fixture
def broken(coco_scenes: Path, tmp_path: Path) -> Path:
    """A generated folder with one fault of every kind."""
    root = tmp_path / "coco"
    shutil.copytree(coco_scenes, root)
    instances = load(root, "instances")
    first, second, third, fourth, fifth = [one for one in instances["annotations"] if not one["iscrowd"]][:5]
    first["image_id"] = 999
    second["segmentation"] = {"size": [48, 48], "counts": "~~~"}
    third["bbox"] = [40, 40, 20, 4]
    fourth["bbox"] = [4, 4, 0, 3]
    fifth["category_id"] = 12
    instances["images"].append(instances["images"][0])
    save(root, "instances", instances)
    panoptic = load(root, "panoptic")
    path = root / "annotations/panoptic_train2017" / panoptic["annotations"][0]["file_name"]
    pixels = np.array(Image.open(path))
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    del panoptic["annotations"][1]
    save(root, "panoptic", panoptic)
    (root / "train2017" / panoptic["images"][-1]["file_name"]).unlink()
    cut = root / "train2017" / panoptic["images"][0]["file_name"]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    _break_people(root)
    stuff = load(root, "stuff")
    stuff["annotations"][1]["id"] = stuff["annotations"][0]["id"]
    stuff["categories"][0]["name"] = "blanket"
    save(root, "stuff", stuff)
    return root


def _break_people(root: Path) -> None:
    people = load(root, "person_keypoints")
    person = next(one for one in people["annotations"] if not one["iscrowd"])
    person["keypoints"] = [48.5, 3, 3, *[0] * 48]
    person["num_keypoints"] = 17
    save(root, "person_keypoints", people)


def load(root: Path, kind: str) -> Json:
    content: Json = json.loads((root / f"annotations/{kind}_train2017.json").read_text())
    return content


def save(root: Path, kind: str, content: Json) -> None:
    (root / f"annotations/{kind}_train2017.json").write_text(json.dumps(content))


def mfed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """``mfed data ...``: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        main(["data", *map(str, arguments)])
    return int(stop.value.code or 0), *capsys.readouterr()


KINDS = {
    "missing image": "annotation {0} of image 999: the file lists no such image",
    "broken mask": "annotation {1} of image",
    "box outside image": "annotation {2} of image",
    "zero-size box": "annotation {3} of image",
    "unknown category": "annotation {4} of image",
    "duplicate image id": "listed more than once",
    "panoptic ids disagree": "panoptic_train2017",
    "missing image file": ".jpg",
    "unreadable file": "cannot be decoded as an image (image file is truncated",
    "unannotated image": "listed, but not annotated",
    "duplicate annotation id": "the file has an annotation of this id before",
    "wrong category name": "category 92: name 'blanket' found, must be 'banner'",
    "wrong visibility": "visibility 3 of nose found",
    "keypoint outside image": "nose [48.5, 3] outside its image of 48 x 48 pixels",
    "num_keypoints disagrees": "num_keypoints 17 found, but 1 keypoints have",
}


def test_all_faults_are_listed_at_once_and_counted(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [one["id"] for one in load(broken, "instances")["annotations"] if not one["iscrowd"]][:5]
    code, told, errors = mfed(capsys, "check", broken)
    assert code == 2
    for kind, words in KINDS.items():
        assert f" {kind}" in errors, kind
        assert words.format(*ids) in told
    problems = check(broken)
    assert errors.startswith(f"mfed: {broken}: {len(problems)} problems: ")
    assert all(str(problem) in told for problem in problems)
    assert all(str(broken) in str(problem.file) for problem in problems)


@pytest.mark.parametrize("fixture", ["coco_scenes", "scenes"])
def test_a_generated_folder_has_no_problems(
    fixture: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    root = request.getfixturevalue(fixture)
    code, told, errors = mfed(capsys, "check", root)
    assert (code, errors) == (0, "")
    assert f"{root}: no problems" in told
    counted = {line.partition(";")[0] for line in told.splitlines() if " images; " in line}
    assert {line.partition(":")[0] for line in counted} == {"train", "val"}


def test_real_pascal_context_has_no_problems(shared: Path) -> None:
    assert check(shared / "data" / "pascal_mini") == []


def test_a_broken_label_of_pascal_context_is_named(scenes: Path, tmp_path: Path) -> None:
    root = tmp_path / "pascal"
    shutil.copytree(scenes, root)
    path = next((root / "sal_distill").iterdir())
    path.write_bytes(b"no image")
    (problem,) = check(root)
    assert (problem.kind, problem.id) == ("unreadable target", path.stem)
    assert f"{path}: cannot be decoded as an image" in str(problem)


def test_tasks_and_image_counts_are_named(shared: Path) -> None:
    assert list(contents(shared / "data/pascal_mini")) == [
        "train: 9 images; edge_detection 9, human_parts 2, saliency 9, semantic_segmentation 9",
        "val: 9 images; edge_detection 9, human_parts 6, saliency 9, semantic_segmentation 9",
    ]


def _list(root: Path, split: str) -> Path:
    return root / f"ImageSets/Context/{split}.txt"


def _add(root: Path, split: str, image_id: str) -> None:
    path = _list(root, split)
    path.write_text(path.read_text() + f"{image_id}\n")


def _first(root: Path, split: str = "train") -> str:
    return _list(root, split).read_text().split()[0]


def _remove_labels(root: Path) -> None:
    for folder in ("semseg/VOC12", "human_parts", "sal_distill", "normals_distill", "pascal-context/trainval"):
        next((root / folder).glob(f"{_first(root)}.*")).unlink()


def _without_saliency(root: Path) -> None:
    for path in (root / "sal_distill").iterdir():
        path.unlink()


def _empty_labels(root: Path) -> None:
    for path in (root / "sal_distill").iterdir():
        Image.new("L", (32, 32)).save(path)


PASCAL_FAULTS: list[tuple[Callable[[Path], Any], str, str]] = [
    (lambda root: shutil.rmtree(root / "ImageSets"), "missing split", "train.txt: no file for split 'train', this"),
    (lambda root: _list(root, "val").unlink(), "missing split", "val.txt: no file for split 'val', this"),
    (lambda root: _list(root, "val").write_bytes(b"\xff\n"), "missing split", "cannot be read as a list of image ids"),
    (lambda root: _add(root, "train", "nobody"), "missing image file", "nobody.jpg: nobody: file not found, train.txt"),
    (lambda root: _add(root, "val", "x" * 300), "unreadable target", "cannot be decoded as an image"),
    (_remove_labels, "no target", "has no label of any of edge_detection, human_parts, saliency, semantic_"),
    (lambda root: _add(root, "train", _first(root)), "duplicate image id", "listed 2 times, must be once"),
    (lambda root: _add(root, "val", _first(root)), "duplicate image id", "train.txt lists it too, must be in one"),
    (
        _without_saliency,
        "task without targets",
        "val.txt: none of 8 images has a label of saliency with anything but 0 and void",
    ),
    (_empty_labels, "task without targets", "has a label of saliency with anything but 0 and void"),
]


@pytest.mark.parametrize(("change", "kind", "message"), PASCAL_FAULTS)
def test_faults_of_a_pascal_context_folder(
    scenes: Path, tmp_path: Path, change: Callable[[Path], Any], kind: str, message: str
) -> None:
    root = tmp_path / "pascal"
    shutil.copytree(scenes, root)
    change(root)
    problems = check(root)
    assert {problem.kind for problem in problems} == {kind}
    assert any(message in str(problem) for problem in problems), problems


def test_a_split_that_is_missing_is_not_counted(scenes: Path, tmp_path: Path) -> None:
    root = tmp_path / "pascal"
    shutil.copytree(scenes, root)
    _list(root, "val").unlink()
    assert list(contents(root))[1] == "val: cannot be counted"


def test_a_folder_of_neither_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x/annotations: cannot be looked at \(File name too long\)"):
        check(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match="has no label folder of any task, looked for: semseg/VOC12"):
        check(tmp_path)


def test_generate_in_every_layout_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mfed(capsys, "generate", tmp_path / "coco", "--images", 4, "--size", 32, "--layout", "coco")[0] == 0
    assert (tmp_path / "coco/annotations/panoptic_val2017.json").is_file()
    assert mfed(capsys, "generate", tmp_path / "boards", "--images", 4, "--size", 32, "--layout", "textures")[0] == 0
    assert (tmp_path / "boards/semseg/VOC12/board_000003.png").is_file()
    code, _, errors = mfed(capsys, "generate", tmp_path / "other", "--layout", "voc")
    assert (code, errors) == (2, "mfed: --layout: 'voc' is not one of pascal_context, coco, textures\n")


@pytest.mark.parametrize("backend", ["serial", "ray"])
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_a_broken_folder_is_refused_with_file_and_id(
    backend: str, broken: Path, tmp_path: Path, tiny_coco: Callable[..., Experiment]
) -> None:
    experiment = tiny_coco(data={"scenes": {"root": str(broken)}}, runtime={"backend": backend})
    with pytest.raises(DataError) as error:
        list(run(experiment, tmp_path / "run"))
    path = broken / "annotations/instances_train2017.json"
    assert f"{path}: image {load(broken, 'instances')['images'][0]['id']}: listed more than once" in str(error.value)
    assert str(error.value).endswith(f"(and 3 more); `mfed data check {broken}` lists all")  # of four, one zero-size
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("backend", ["serial", "ray"])
@pytest.mark.usefixtures("ray_cluster")
def test_what_only_reading_finds_ends_the_run_with_file_and_id(
    backend: str, coco_scenes: Path, tmp_path: Path, tiny_coco: Callable[..., Experiment]
) -> None:
    """A broken mask is not looked at before the image's turn comes."""
    root = tmp_path / "coco"
    shutil.copytree(coco_scenes, root)
    instances = load(root, "instances")
    for one in instances["annotations"]:
        one["segmentation"] = {"size": [48, 48], "counts": "~~~"}
    save(root, "instances", instances)
    clients = [{"tasks": ["instance_segmentation"], "data": "scenes"}]
    experiment = tiny_coco(data={"scenes": {"root": str(root)}}, clients=clients, runtime={"backend": backend})
    with pytest.raises(DataError, match=r"instances_train2017\.json: annotation \d+ of image \d+: "):
        list(run(experiment, tmp_path / "run"))
