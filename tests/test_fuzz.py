"""Damaged files of every kind, the same each time: nothing but the project's own errors comes out.

``benchmarks/fuzz.py`` makes as many as one likes.
"""

import io
import zlib
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from scipy.io import savemat

from benchmarks.fuzz import fuzz, mutant, targets
from mfed_ray.data.coco.parsing import parse
from mfed_ray.data.files import read_mat
from mfed_ray.errors import ConfigError, DataError, RunFolderError, WeightsError
from mfed_ray.experiment.loading import overrides_tree
from mfed_ray.models.weights import read_weights
from mfed_ray.results.run_folder import parse_config

INPUTS = {"config": 12, "run config": 6, "overrides": 20}
NAMES = [
    "config", "run config", "overrides", "coco instance_segmentation", "coco keypoint_detection",
    "coco panoptic_segmentation", "coco stuff_segmentation", "mat parts", "mat edges", "normals", "image", "label",
    "parquet", "checkpoint index", "checkpoint values", "checkpoint tensors", "failures",
    "environment", "partition", "skipped", "weights", "pickled weights", "trials",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_raise_the_projects_errors(name: str) -> None:
    assert fuzz(name, 0, INPUTS.get(name, 150)) == {}


def test_every_input_is_another_and_the_same_again(tmp_path: Path) -> None:
    target = targets(tmp_path)["label"]
    made = [mutant(target, "label", number) for number in range(40)]
    assert made == [mutant(target, "label", number) for number in range(40)]
    assert len(set(made)) > 35


def parts() -> bytearray:
    """A MATLAB file of one text and one number in a struct."""
    buffer = io.BytesIO()
    savemat(buffer, {"anno": {"name": "head", "number": np.array([1.5])}})  # type: ignore[arg-type]  # paths only
    return bytearray(buffer.getvalue())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # What a number's element says of its type: SciPy would follow a pointer that is none.
        (b"\x09\x00\x00\x00\x08\x00\x00\x00", b"\xff\x00\x00\x00\x08\x00\x00\x00", "values of type 255 found"),
        (b"\x09\x00\x00\x00\x08\x00\x00\x00", b"\x0a\x00\x00\x00\x08\x00\x00\x00", "values of type 10 found"),
        (b"\x09\x00\x00\x00\x08\x00\x00\x00", b"\x09\x00\x00\x00\x08\x00\x00\x70", "are left"),
        (b"\x10\x00\x04\x00head", b"\x12\x00\x04\x00head", "values of type 18 found"),
        (b"\x05\x00\x04\x00\x07\x00\x00\x00", b"\x05\x00\x04\x00\x00\x00\x00\x00", "names of 0 bytes found"),
    ],
)
def test_matlab_files_that_would_crash_the_process_are_refused(
    tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    content = parts()
    assert old in content
    path = tmp_path / "x.mat"
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"x\.mat: cannot be read as a MATLAB file \(.*{message}"):
        read_mat(path, "anno")


def of_zeros(count: int) -> bytes:
    """A MATLAB file of one compressed variable "anno": a cell of ``count`` empty arrays, 8 bytes each."""
    head = pack("<4I", 6, 8, 1, 0) + pack("<2I2i", 5, 8, count, 1) + pack("<2I", 1, 4) + b"anno\0\0\0\0"
    data = head + pack("<2I", 14, 0) * count
    packed = zlib.compress(pack("<2I", 14, len(data)) + data)
    return bytes(parts()[:128]) + pack("<2I", 15, len(packed)) + packed


def test_a_small_matlab_file_of_many_elements_is_refused_before_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(of_zeros(3))
    assert read_mat(path, "anno").shape == (3, 1)
    path.write_bytes(of_zeros(2**18))
    assert path.stat().st_size < 2**13
    with pytest.raises(DataError, match=r"x\.mat: cannot be read as a MATLAB file \(more than 131072 elements found"):
        read_mat(path, "anno")


def test_an_array_of_more_values_than_bytes_is_refused(tmp_path: Path) -> None:
    """SciPy fills a text that has none of its letters with blanks: as many as its sizes say."""
    text, blank = pack("<2i", 1, 4) + pack("<2I", 1, 0), pack("<2i", 1, 2**24) + pack("<2I", 1, 0)
    assert parts().count(text + b"\x10\0\4\0head") == 1
    path = tmp_path / "x.mat"
    path.write_bytes(parts().replace(text + b"\x10\0\4\0head", blank + pack("<2I", 16, 0)))
    with pytest.raises(DataError, match=r"an array of 16777216 values found, allowed are 0 to \d+, its bytes"):
        read_mat(path, "anno")


def test_text_that_is_nested_too_deep_is_refused() -> None:
    deep = "[" * 800
    with pytest.raises(ConfigError, match="not valid YAML"):
        overrides_tree([f"rounds={deep}"])
    with pytest.raises(RunFolderError, match="run: cannot be read as a run's config"):
        parse_config(io.BytesIO(deep.encode()), "run")


@pytest.mark.parametrize("place", ['"annotations": [], "categories": %s', '"annotations": [%s], "categories": []'])
def test_coco_files_that_are_nested_too_deep_are_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "stuff.json"
    path.write_text(f'{{"images": [], {place % ("[" * 1200 + "]" * 1200)}}}')
    _, problems = parse(path, "stuff_segmentation")
    assert [problem.kind for problem in problems] == ["unreadable file"]


def test_pickled_weights_that_torch_cannot_make_sense_of_are_refused(tmp_path: Path) -> None:
    found = targets(tmp_path)["pickled weights"]
    path = tmp_path / "weights.pth"
    for number in (143, 332):  # a UnicodeDecodeError, a ValueError
        path.write_bytes(mutant(found, "pickled weights", number))
        with pytest.raises(WeightsError, match=r"model\.weights: cannot read .*weights\.pth"):
            read_weights(path)
