from pathlib import Path

import numpy as np
import pytest

from mfed_ray.coco_categories import MERGED_STUFF, STUFF, THINGS, Category
from mfed_ray.data.coco.layout import NAMES, is_folder, is_missing, to_labels
from mfed_ray.errors import DataError


def test_labels_of_category_ids() -> None:
    ids = np.array([0, 1, 12, 90, 91, 92, 183, 200, 201, 10**15])
    assert to_labels("instance_segmentation", ids).tolist() == [-1, 1, -1, 80, -1, -1, -1, -1, -1, -1]
    assert to_labels("keypoint_detection", ids).tolist() == [-1, 1, -1, -1, -1, -1, -1, -1, -1, -1]
    assert to_labels("stuff_segmentation", ids).tolist() == [-1, -1, -1, -1, -1, 0, 91, -1, -1, -1]
    assert to_labels("panoptic_segmentation", ids).tolist() == [-1, 0, -1, 79, -1, 80, -1, 132, -1, -1]


@pytest.mark.parametrize("space", [THINGS, STUFF, MERGED_STUFF])
def test_an_id_has_one_name_in_all_label_spaces(space: tuple[Category, ...]) -> None:
    assert [NAMES[one.id] for one in space] == [one.name for one in space]


def test_what_may_not_be_looked_at_is_neither_missing_nor_a_folder(tmp_path: Path) -> None:
    hidden = tmp_path / ("x" * 300)
    (tmp_path / "file").write_text("")
    assert [is_missing(path) for path in (tmp_path / "file", tmp_path, tmp_path / "none", hidden)] == [
        False,
        True,
        True,
        False,
    ]
    assert [is_folder(path) for path in (tmp_path / "file", tmp_path, tmp_path / "none")] == [False, True, False]
    with pytest.raises(DataError, match=r"xxx: cannot be looked at \(File name too long\)"):
        is_folder(hidden)
