import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from mfed_ray.boundaries import label_boundaries
from mfed_ray.data.generated import FORMAT_VERSION, generate_pascal_context
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.errors import ConfigError, DataError
from mfed_ray.labels import PERSON

ALL_TASKS = ("edge_detection", "human_parts", "saliency", "semantic_segmentation", "surface_normals")


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_task_is_there_and_its_targets_agree(generated: Path) -> None:
    dataset = PascalContext(generated)
    assert sorted(dataset.tasks) == list(ALL_TASKS)
    for image_id in [*dataset.image_ids("train"), *dataset.image_ids("val")]:
        tasks = [task for task in ALL_TASKS if dataset.usable(image_id, task)]
        sample = dataset.read(image_id, tasks)
        classes, salient = sample.targets["semantic_segmentation"], sample.targets["saliency"] == 1
        assert sample.image.shape == (48, 48, 3)
        assert (classes[salient] > 0).all()
        assert salient.any()
        assert 1 <= dataset.dominant_class(image_id) <= 20
        length = np.linalg.norm(sample.targets["surface_normals"], axis=2)
        assert np.all((np.abs(length - 1) < 1e-5) | (length == 0))
        assert length[classes > 0].min() > 0.99, "only the sky has no normal"
        labels = loadmat(str(generated / "pascal-context/trainval" / f"{image_id}.mat"))["LabelMap"]
        assert labels.min() >= 1
        assert labels.max() <= 459
        np.testing.assert_array_equal(sample.targets["edge_detection"][:, :, 0], label_boundaries(labels))
        assert ("human_parts" in tasks) == bool(np.any(classes == PERSON))
        if "human_parts" in tasks:
            parts = sample.targets["human_parts"]
            assert (classes[parts > 0] == PERSON).all()
            assert np.mean(parts[classes == PERSON] > 0) == 1, "every pixel of a person belongs to a part"


def test_people_are_in_half_of_the_images_and_in_both_splits(generated: Path) -> None:
    dataset = PascalContext(generated)
    train, val = dataset.image_ids("train"), dataset.image_ids("val")
    assert (len(train), len(val)) == (6, 2)
    assert not set(train) & set(val)
    assert sum(dataset.usable(one, "human_parts") for one in train) == 3
    assert sum(dataset.usable(one, "human_parts") for one in val) == 1


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_smallest_set_has_people_in_both_splits(tmp_path: Path, fraction: float) -> None:
    generate_pascal_context(tmp_path / "set", images=4, size=32, val_fraction=fraction)
    dataset = PascalContext(tmp_path / "set")
    for split in ("train", "val"):
        assert sum(dataset.usable(one, "human_parts") for one in dataset.image_ids(split)) == 1


def test_same_parameters_same_bytes_in_any_number_of_processes(tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("again", 1), ("two", 2)):
        generate_pascal_context(tmp_path / name, images=4, size=32, seed=5, processes=processes)
    generate_pascal_context(tmp_path / "other", images=4, size=32, seed=6)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "again") == _tree(tmp_path / "two")
    assert _tree(tmp_path / "one") != _tree(tmp_path / "other")
    assert len(_tree(tmp_path / "one")) == 4 * 6 + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "one", "other", "two"]


def test_progress_and_record(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_pascal_context(
        tmp_path / "set", images=4, size=32, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads((tmp_path / "set/generated.json").read_text()) == {
        "images": 4, "size": 32, "seed": 0, "val_fraction": 0.25, "format_version": FORMAT_VERSION,
    }  # fmt: skip


def test_same_parameters_again_do_nothing_and_others_are_refused(generated: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in generated.rglob("*")}
    generate_pascal_context(generated, images=8, size=48, seed=3)
    with pytest.raises(DataError, match=r"was generated with size 48 \(asked for: 64\), seed 3 \(asked for: 4\)"):
        generate_pascal_context(generated, images=8, size=64, seed=4)
    assert {path: path.stat().st_mtime_ns for path in generated.rglob("*")} == before


def test_foreign_folders_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(DataError, match="mine: is not empty and was not generated here"):
        generate_pascal_context(tmp_path / "mine", images=4, size=32)
    with pytest.raises(DataError, match=r"notes.txt: is a file, a dataset needs a new or empty folder"):
        generate_pascal_context(tmp_path / "mine/notes.txt", images=4, size=32)
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    generate_pascal_context(tmp_path / "empty", images=4, size=32)
    assert len(PascalContext(tmp_path / "empty").image_ids("train")) == 2


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt(total)

    with pytest.raises(KeyboardInterrupt):
        generate_pascal_context(tmp_path / "set", images=4, size=32, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_whoever_finishes_first_wins(tmp_path: Path) -> None:
    def overtake(done: int, total: int, *, size: int) -> None:
        if done == total:
            generate_pascal_context(tmp_path / "set", images=4, size=size)

    generate_pascal_context(tmp_path / "set", images=4, size=32, on_progress=partial(overtake, size=32))
    assert len(_tree(tmp_path / "set")) == 4 * 6 + 3
    shutil.rmtree(tmp_path / "set")
    with pytest.raises(DataError, match=r"was generated with size 40 \(asked for: 32\)"):
        generate_pascal_context(tmp_path / "set", images=4, size=32, on_progress=partial(overtake, size=40))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: cannot be made a folder"):
        generate_pascal_context(tmp_path / "file" / "set", images=4, size=32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 3}, "images: 3 found, must be at least 4"),
        ({"size": 31}, "size: 31 found, must be from 32 to 1024 pixels"),
        ({"size": 1025}, "size: 1025 found"),
        ({"seed": -1}, "seed: -1 found, must not be negative"),
        ({"val_fraction": 1.0}, "val_fraction: 1.0 found, must be between 0 and 1"),
        ({"processes": 0}, "processes: 0 found, must be at least 1"),
    ],
)
def test_parameters_are_checked(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_pascal_context(tmp_path / "set", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()
