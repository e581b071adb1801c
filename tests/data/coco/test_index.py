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
    (built,) = [path for path in cache_folder().iterdir() if path.is_dir()]
    other = cache.with_name("other") / cache_folder().relative_to(cache)
    other.mkdir(parents=True)
    environment = os.environ | {"MFED_CACHE": str(cache.with_name("other"))}
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
    """And the index of what it was goes, unlike those of other files, or of the file of a copy of the folder."""
    former = _open(folder)
    copy = shutil.copytree(folder, folder.with_name("copy"))
    assert len(_open(copy).rows) == 4
    assert Coco(folder).usable("train2017/7", "stuff_segmentation")
    kept = set(cache_folder().iterdir())
    with edit("instances_train2017") as tree:
        del tree["annotations"][0]
    assert _open(folder).rows["id"].tolist() == [71, 72, 73]
    assert former.rows["id"].tolist() == [70, 71, 72, 73], "who has it open may go on"
    now = set(cache_folder().iterdir())
    (gone,), (new,) = kept - now, now - kept
    assert gone.name.split("-")[0] == new.name.split("-")[0]
    assert len(now) == 4, "three indexes and the lock"


def test_a_file_that_went_away(folder: Path) -> None:
    dataset = Coco(folder)
    shutil.rmtree(folder / "annotations")
    with pytest.raises(DataError, match=r"annotations/instances_train2017.json: file not found"):
        dataset.image_ids("train")
    (folder / "annotations").write_text("")
    with pytest.raises(DataError, match=r"annotations/instances_train2017.json: cannot be read \(Not a directory\)"):
        dataset.image_ids("train")


def test_two_tasks_files_that_are_one_have_an_index_each(folder: Path) -> None:
    (folder / "annotations/stuff_train2017.json").unlink()
    (folder / "annotations/instances_train2017.json").rename(folder / "annotations/objects.json")
    for name in ("instances", "stuff"):
        (folder / f"annotations/{name}_train2017.json").symlink_to("objects.json")
    assert _open(folder).rows["label"].tolist() == [17, 1, 1, 80]
    with pytest.raises(DataError, match=r"stuff_train2017.json: .*category_id 18 found, allowed are the 92 of COCO"):
        Coco(folder).usable("train2017/7", "stuff_segmentation")


def test_a_refused_file_leaves_nothing_behind(folder: Path, edit: Any) -> None:
    with edit("instances_train2017") as tree:
        tree["annotations"][0]["category_id"] = 0
    with pytest.raises(DataError, match="category_id 0 found"):
        _open(folder)
    assert [path.name for path in cache_folder().iterdir()] == ["lock"]


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


def test_the_cache_is_the_users_own(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In ``$MFED_CACHE``, which users may share, and in the temporary folder."""
    mine = f"mfed-{os.getuid()}"
    assert cache_folder() == cache / mine / "coco"
    monkeypatch.delenv("MFED_CACHE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder() == tmp_path / mine / "coco"
    (tmp_path / mine).mkdir(mode=0o755)
    _open(folder)
    assert (tmp_path / mine).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / mine / "coco/lock").is_file()


def test_a_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MFED_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError) as caught:
        Coco(folder).image_ids("train")
    place = tmp_path / f"file/mfed-{os.getuid()}/coco"
    message = f"{place}: the index of {folder}/annotations/instances_train2017.json cannot be kept there ("
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(
        f", where MFED_CACHE={tmp_path}/file puts it; set MFED_CACHE to a folder you can write to"
    )
    monkeypatch.delenv("MFED_CACHE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=r"cannot be kept there \([^()]*\); set MFED_CACHE to a folder you can write to$"
    ):
        Coco(folder).image_ids("train")


@pytest.fixture
def forged(folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with another's index of the file: whole, and without its last annotation."""
    _open(folder)
    monkeypatch.setenv("MFED_CACHE", str(tmp_path / "forged"))
    shutil.copytree(cache, tmp_path / "forged")
    (path,) = (tmp_path / "forged").rglob("rows.npy")
    np.save(path, np.load(path)[:-1])
    return path


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@needs_root
def test_an_index_of_another_user_is_ignored(folder: Path, forged: Path) -> None:
    """It is built anew in a folder of the user's own; a folder of another's is refused with his number."""
    os.chown(forged, 1234, -1)
    assert _open(folder).rows["id"].tolist() == [70, 71, 72, 73]
    assert forged.stat().st_uid == os.geteuid()


@needs_root
@pytest.mark.parametrize("above", [0, 1])
def test_a_folder_of_another_user_is_refused(folder: Path, forged: Path, above: int) -> None:
    theirs = forged.parents[1 + above]
    os.chown(forged, 1234, -1)
    os.chown(theirs, 1234, -1)
    with pytest.raises(DataError, match=rf"belongs to user 1234, not to you \(0\): '{theirs}'\).*set MFED_CACHE to"):
        _open(folder)


def test_a_link_in_place_of_the_lock_changes_no_file(folder: Path, forged: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    forged.unlink()
    (forged.parents[1] / "lock").unlink()
    (forged.parents[1] / "lock").symlink_to(victim)
    with pytest.raises(DataError, match=r"cannot be kept there .*Too many levels of symbolic links"):
        _open(folder)
    assert victim.read_text() == "precious"


def test_a_link_in_place_of_the_folder_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / f"mfed-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"cannot be kept there .*Not a directory"):
        _open(folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []
