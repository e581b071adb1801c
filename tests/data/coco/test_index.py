import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfed_ray.data.coco import Coco
from mfed_ray.data.coco.index import cache_folder, open_table
from mfed_ray.data.coco.table import Table
from mfed_ray.errors import DataError


def _open(root: Path) -> Table:
    return open_table(root, root / "annotations/instances_train2017.json", "instance_segmentation")


def test_columns_are_mapped_from_disk_and_written_once(folder: Path, cache: Path) -> None:
    table = _open(folder)
    assert all(isinstance(column.base, np.memmap) for column in table.columns().values())
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    assert len(written) == len(table.columns())
    assert _open(folder) is table, "one set of open files in a process"
    again = subprocess.run([sys.executable, "-c", _READ, str(folder)], check=True, capture_output=True, text=True)
    assert again.stdout == "['train2017/7', 'train2017/3']\n"
    for path, time in written.items():
        assert path.stat().st_mtime_ns == time


_READ = "import sys; from mfed_ray.data.coco import Coco; print(Coco(sys.argv[1]).image_ids('train'))"


def test_one_process_builds_and_the_others_wait(folder: Path, cache: Path) -> None:
    (folder / "annotations/instances_val2017.json").unlink()
    for name in ("person_keypoints", "stuff", "panoptic"):
        (folder / f"annotations/{name}_train2017.json").unlink()
    table = _open(folder)
    (built,) = [path for path in (cache / "coco").iterdir() if path.is_dir()]
    other = cache.with_name("other") / "coco"
    other.mkdir(parents=True)
    environment = os.environ | {"MFED_CACHE": str(other.parent)}
    with (other / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [sys.executable, "-c", _READ, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            assert [path.name for path in other.iterdir()] == ["lock"], "it waits"
            shutil.copytree(built, other / built.name)
            kept = (other / built.name / "rows.npy").stat().st_ino
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.stdout is not None
            assert process.stdout.read() == "['train2017/7', 'train2017/3']\n"
    assert (other / built.name / "rows.npy").stat().st_ino == kept, "it took what the builder made"
    assert len(table.rows) == 4


@pytest.mark.parametrize("column", ["ids", "rows", "text"])
@pytest.mark.parametrize("left", [None, 0, 30, 130])
def test_damaged_columns_are_built_anew(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, column: str, left: int | None
) -> None:
    expected = _open(folder)
    other = cache.with_name("other")
    shutil.copytree(cache, other)
    monkeypatch.setenv("MFED_CACHE", str(other))
    (path,) = other.rglob(f"{column}.npy")
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    for name, found in _open(folder).columns().items():
        np.testing.assert_array_equal(found, expected.columns()[name])
    assert not list(other.rglob("*.partial"))


def test_a_changed_file_is_indexed_anew(folder: Path, edit: Any) -> None:
    assert len(_open(folder).rows) == 4
    with edit("instances_train2017") as tree:
        del tree["annotations"][0]
    assert _open(folder).rows["id"].tolist() == [71, 72, 73]


def test_a_file_that_went_away(folder: Path) -> None:
    dataset = Coco(folder)
    shutil.rmtree(folder / "annotations")
    with pytest.raises(DataError, match=r"annotations/instances_train2017.json: file not found"):
        dataset.image_ids("train")


def test_a_refused_file_leaves_nothing_behind(folder: Path, cache: Path, edit: Any) -> None:
    with edit("instances_train2017") as tree:
        tree["annotations"][0]["category_id"] = 0
    with pytest.raises(DataError, match="category_id 0 found"):
        _open(folder)
    assert [path.name for path in (cache / "coco").iterdir()] == ["lock"]


def test_rows_stand_image_by_image_in_the_files_order(folder: Path, edit: Any) -> None:
    with edit("instances_train2017") as tree:
        first, second, third, _ = tree["annotations"]
        tree["annotations"] = [first | {"id": 9}, second | {"id": 4, "image_id": 3}, third | {"id": 1}]
        kept = json.dumps(second["segmentation"]).encode()
    table = _open(folder)
    assert table.ids.tolist() == [3, 7]
    assert [table.of_image(position)["id"].tolist() for position in (0, 1)] == [[4], [9, 1]]
    assert [table.find(number) for number in (2, 3, 7, 8)] == [None, 0, 1, None]
    assert table.texts(0) == [kept]


def test_the_cache_is_the_users_own_in_the_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MFED_CACHE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder() == tmp_path / f"mfed-{os.getuid()}" / "coco"


def test_a_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MFED_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"file/coco: the index of .*instances.* cannot be kept there .*set MFED_CACHE"):
        Coco(folder).image_ids("train")
