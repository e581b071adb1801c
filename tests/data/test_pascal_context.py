import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from mfed_ray.boundaries import label_boundaries
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import DataError


@pytest.fixture
def pascal_mini(shared: Path) -> PascalContext:
    return PascalContext(shared / "data/pascal_mini")


@pytest.fixture
def broken(generated: Path, tmp_path: Path) -> Path:
    """A copy of the generated set, to be damaged."""
    return Path(shutil.copytree(generated, tmp_path / "broken"))


def _first(root: Path) -> str:
    """An image with people."""
    dataset = PascalContext(root)
    return next(one for one in dataset.image_ids("train") if dataset.usable(one, "human_parts"))


def test_real_pascal(pascal_mini: PascalContext) -> None:
    ids = [*pascal_mini.image_ids("train"), *pascal_mini.image_ids("val")]
    assert (len(pascal_mini.image_ids("train")), len(set(ids))) == (9, 18)
    assert sorted(pascal_mini.tasks) == ["edge_detection", "human_parts", "saliency", "semantic_segmentation"]
    assert sum(pascal_mini.usable(one, "human_parts") for one in ids) == 8
    assert all(pascal_mini.usable(one, "saliency") for one in ids)
    assert pascal_mini.dominant_class("2008_000652") == 15
    assert pascal_mini.dominant_class("2008_001978") == 3  # a bird on a rock
    sample = pascal_mini.read("2008_000652", sorted(pascal_mini.tasks))
    assert sample.image.shape == (213, 320, 3)
    assert np.unique(sample.targets["semantic_segmentation"]).tolist() == [0, 15]
    parts = sample.targets["human_parts"]
    assert set(np.unique(parts)) <= set(range(7))
    assert (sample.targets["semantic_segmentation"][parts > 0] == 15).mean() > 0.95
    labels = loadmat(str(pascal_mini.root / "pascal-context/trainval/2008_000652.mat"))["LabelMap"]
    np.testing.assert_array_equal(sample.targets["edge_detection"][:, :, 0], label_boundaries(labels))


def test_usability_follows_the_image_not_its_position(pascal_mini: PascalContext) -> None:
    usable = [one for one in pascal_mini.image_ids("train") if pascal_mini.usable(one, "human_parts")]
    assert usable == ["2008_000652", "2008_000726", "2009_001103", "2010_002526"][: len(usable)]
    for image_id in usable:
        assert pascal_mini.read(image_id, ["human_parts"]).targets["human_parts"].any()


def test_real_bsds_has_one_edge_map_per_annotator(shared: Path) -> None:
    dataset = PascalContext(shared / "data/bsds_mini")
    assert (len(dataset.image_ids("train")), len(dataset.image_ids("val"))) == (200, 50)
    assert not set(dataset.image_ids("train")) & set(dataset.image_ids("val"))
    assert dataset.tasks == {"edge_detection", "saliency"}
    sample = dataset.read("100075", ["edge_detection", "saliency"])
    assert sample.targets["edge_detection"].shape == (321, 481, 6)
    assert np.unique(sample.targets["edge_detection"]).tolist() == [0, 1]
    assert np.unique(sample.targets["saliency"]).tolist() == [0, 1]
    with pytest.raises(DataError, match="has no task 'semantic_segmentation', it has: edge_detection, saliency"):
        dataset.dominant_class("100075")


def test_instances_survive_pickling(generated: Path) -> None:
    dataset = pickle.loads(pickle.dumps(PascalContext(generated)))  # noqa: S301
    assert dataset.tasks == PascalContext(generated).tasks
    assert dataset.image_ids("val") == PascalContext(generated).image_ids("val")


def test_only_the_targets_asked_for_are_read(broken: Path) -> None:
    image_id = _first(broken)
    (broken / "sal_distill" / f"{image_id}.png").unlink()
    dataset = PascalContext(str(broken))
    assert set(dataset.read(image_id, ["surface_normals"]).targets) == {"surface_normals"}
    assert not dataset.usable(image_id, "saliency")
    with pytest.raises(DataError, match=rf"sal_distill/{image_id}.png: file not found"):
        dataset.read(image_id, ["saliency"])


def test_normals_are_unit_and_black_or_grey_is_void(broken: Path) -> None:
    image_id = _first(broken)
    values = np.full((48, 48, 3), 128, np.uint8)
    values[0, 0] = 0
    values[0, 1] = (255, 128, 128)
    values[0, 2] = (204, 128, 230)  # 2 v / 255 - 1 = (0.6, 0.004, 0.804)
    Image.fromarray(values).save(broken / "normals_distill" / f"{image_id}.png")
    normals = PascalContext(broken).read(image_id, ["surface_normals"]).targets["surface_normals"]
    assert normals.dtype == np.float32
    assert not normals[0, 0].any()
    assert not normals[1:].any()
    assert normals[0, 1].tolist() == pytest.approx([1, 0.0039, 0.0039], abs=1e-4)
    assert normals[0, 2].tolist() == pytest.approx([0.598, 0.0039, 0.8015], abs=1e-3)


def test_saliency_is_split_at_half(broken: Path) -> None:
    image_id = _first(broken)
    Image.fromarray(np.tile(np.array([127, 128], np.uint8), (48, 24))).save(broken / "sal_distill" / f"{image_id}.png")
    assert PascalContext(broken).read(image_id, ["saliency"]).targets["saliency"][0, :4].tolist() == [0, 1, 0, 1]


def test_semantic_segmentation_falls_back_to_the_context_folder(broken: Path) -> None:
    image_id = _first(broken)
    (broken / "semseg/pascal-context").mkdir()
    (broken / f"semseg/VOC12/{image_id}.png").unlink()
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(broken / f"semseg/pascal-context/{image_id}.png")
    dataset = PascalContext(broken)
    assert (dataset.read(image_id, ["semantic_segmentation"]).targets["semantic_segmentation"] == 255).all()
    assert dataset.dominant_class(image_id) == 0, "void is no class"
    other = next(one for one in dataset.image_ids("train") if one != image_id)
    assert dataset.dominant_class(other) == PascalContext(broken).dominant_class(other) > 0


def test_roots_and_splits_are_checked(generated: Path, broken: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such dataset folder"):
        PascalContext(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="bare: has no label folder of any task, looked for: semseg/VOC12, "):
        PascalContext(tmp_path / "bare")
    with pytest.raises(DataError, match=r"test.txt: no file for split 'test', this dataset has: train, val"):
        PascalContext(generated).image_ids("test")
    (broken / "ImageSets/Context/val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val.txt: split 'val' is empty, it must name at least one image"):
        PascalContext(broken).image_ids("val")
    with pytest.raises(DataError, match="has no task 'depth', it has: edge_detection, human_parts, saliency, "):
        PascalContext(generated).usable(_first(generated), "depth")


def test_damaged_files_are_named(broken: Path) -> None:
    image_id, dataset = _first(broken), PascalContext(broken)
    with pytest.raises(DataError, match=r"JPEGImages/none.jpg: file not found"):
        dataset.read("none", [])
    (broken / f"JPEGImages/{image_id}.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=rf"JPEGImages/{image_id}.jpg: cannot be decoded as an image"):
        dataset.read(image_id, [])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.full((48, 48), 21, np.uint8), "class 21 found, allowed are 0 to 20, and 255"),
        (np.zeros((40, 30), np.uint8), r"label is 30 x 40 pixels but its image is 48 x 48 \(width x height\)"),
        (np.zeros((48, 48, 3), np.uint8), "pixel mode is RGB, a label must be an 8-bit palette or grey PNG"),
    ],
)
def test_wrong_labels(broken: Path, classes: np.ndarray, message: str) -> None:
    image_id = _first(broken)
    Image.fromarray(classes).save(broken / f"semseg/VOC12/{image_id}.png")
    with pytest.raises(DataError, match=rf"{image_id}.png: {message}"):
        PascalContext(broken).read(image_id, ["semantic_segmentation"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Other": np.zeros((48, 48))}, "has neither 'Boundaries' nor 'LabelMap'"),
        ({"Boundaries": np.zeros((48, 48))}, r"'Boundaries' has shape \(48, 48\), allowed is \(annotators, H, W\)"),
    ],
)
def test_wrong_edges(broken: Path, content: dict[str, np.ndarray], message: str) -> None:
    image_id = _first(broken)
    savemat(str(broken / f"pascal-context/trainval/{image_id}.mat"), content)
    with pytest.raises(DataError, match=message):
        PascalContext(broken).read(image_id, ["edge_detection"])


def test_distilled_labels_of_another_size_are_resized(broken: Path) -> None:
    image_id = _first(broken)
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(broken / f"sal_distill/{image_id}.png")
    colours = np.array([[(255, 128, 128), (128, 255, 128)]], np.uint8)
    Image.fromarray(colours).save(broken / f"normals_distill/{image_id}.png")
    targets = PascalContext(broken).read(image_id, ["saliency", "surface_normals"]).targets
    expected = np.zeros((48, 48), np.uint8)
    expected[:24, 24:] = expected[24:, :24] = 1
    np.testing.assert_array_equal(targets["saliency"], expected)
    assert targets["surface_normals"].shape == (48, 48, 3)
    assert targets["surface_normals"][47, [0, 23, 24, 47]].argmax(axis=1).tolist() == [0, 0, 1, 1]
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(broken / f"semseg/VOC12/{image_id}.png")
    with pytest.raises(DataError, match="label is 2 x 2 pixels but its image is 48 x 48"):
        PascalContext(broken).read(image_id, ["semantic_segmentation"])


def test_normals_count_in_the_classes_that_nyud_knows(broken: Path) -> None:
    image_id = _first(broken)
    Image.fromarray(np.full((48, 48, 3), (255, 128, 128), np.uint8)).save(broken / f"normals_distill/{image_id}.png")
    labels = np.full((48, 48), 440)  # wall
    labels[:, 10:20], labels[:, 20:30], labels[:, 30:] = 360, 427, 258  # sky, tvmonitor, motorbike
    savemat(str(broken / f"pascal-context/trainval/{image_id}.mat"), {"LabelMap": labels})

    def counted() -> list[bool]:
        normals = PascalContext(broken).read(image_id, ["surface_normals"]).targets["surface_normals"]
        return [bool(one) for one in normals.any(axis=2)[0, [0, 15, 25, 40]]]

    assert counted() == [True, True, True, True], "generated normals are true everywhere"
    (broken / "generated.json").unlink()
    assert counted() == [True, False, True, False]
    (broken / f"pascal-context/trainval/{image_id}.mat").unlink()
    assert counted() == [True, True, True, True]
