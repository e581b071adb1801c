"""Damaged files of every kind, the same each time: nothing but the project's own errors comes out.

``benchmarks/fuzz.py`` makes as many as one likes.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from benchmarks.fuzz import fuzz, mutant, targets
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


def test_text_that_is_nested_too_deep_is_refused() -> None:
    deep = "[" * 800
    with pytest.raises(ConfigError, match="not valid YAML"):
        overrides_tree([f"rounds={deep}"])
    with pytest.raises(RunFolderError, match="run: cannot be read as a run's config"):
        parse_config(io.BytesIO(deep.encode()), "run")


def test_pickled_weights_that_torch_cannot_make_sense_of_are_refused(tmp_path: Path) -> None:
    found = targets(tmp_path)["pickled weights"]
    path = tmp_path / "weights.pth"
    for number in (143, 332):  # a UnicodeDecodeError, a ValueError
        path.write_bytes(mutant(found, "pickled weights", number))
        with pytest.raises(WeightsError, match=r"model\.weights: cannot read .*weights\.pth"):
            read_weights(path)
