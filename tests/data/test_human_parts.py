from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from mfed_ray.data.human_parts import PART_OF_NAME, has_human_parts, read_human_parts
from mfed_ray.errors import DataError
from mfed_ray.labels import PART_CLASSES


def _save(path: Path, *objects: tuple[int, dict[str, NDArray[np.uint8]]]) -> Path:
    things = np.empty((1, len(objects)), [(name, object) for name in ("class", "class_ind", "mask", "parts")])
    for column, (class_index, masks) in enumerate(objects):
        parts = np.empty((1, len(masks)) if masks else (0, 0), [("part_name", object), ("mask", object)])
        for position, item in enumerate(masks.items()):
            parts[0, position] = item
        things[0, column] = ("thing", class_index, np.ones((2, 3), np.uint8), parts)
    annotation = np.empty((1, 1), [("imname", object), ("objects", object)])
    annotation[0, 0] = ("one", things)
    savemat(str(path), {"anno": annotation})
    return path


def _mask(*columns: int) -> NDArray[np.uint8]:
    mask = np.zeros((2, 3), np.uint8)
    mask[:, list(columns)] = 1
    return mask


def test_parts_of_all_people_are_merged(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "one.mat",
        (15, {"lear": _mask(0)}),
        (12, {"head": _mask(1)}),  # a dog's head is no human part
        (15, {"rfoot": _mask(2)}),
    )
    assert has_human_parts(path)
    assert read_human_parts(path).tolist() == [[1, 0, 6]] * 2


def test_later_parts_cover_earlier_ones(tmp_path: Path) -> None:
    path = _save(tmp_path / "one.mat", (15, {"torso": _mask(0, 1, 2), "luarm": _mask(1)}))
    assert read_human_parts(path).tolist() == [[2, 3, 2]] * 2


@pytest.mark.parametrize("objects", [[(15, {})], [(12, {"head": _mask(1)})]])
def test_images_without_human_parts(tmp_path: Path, objects: list[Any]) -> None:
    path = _save(tmp_path / "one.mat", *objects)
    assert not has_human_parts(path)
    with pytest.raises(DataError, match=r"one.mat: no person with parts, the image has no target for human_parts"):
        read_human_parts(path)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one.mat: part 'hoof' of a person is unknown, allowed: head, hair, "):
        read_human_parts(_save(tmp_path / "one.mat", (15, {"hoof": _mask(0)})))
    with pytest.raises(DataError, match=r"none.mat: file not found"):
        read_human_parts(tmp_path / "none.mat")
    savemat(str(tmp_path / "flat.mat"), {"anno": np.zeros((1, 1))})
    with pytest.raises(DataError, match=r"flat.mat: 'anno' is not a PASCAL-Part annotation"):
        has_human_parts(tmp_path / "flat.mat")
    savemat(str(tmp_path / "empty.mat"), {"other": 1})
    with pytest.raises(DataError, match=r"empty.mat: has no variable 'anno'"):
        has_human_parts(tmp_path / "empty.mat")
    (tmp_path / "damaged.mat").write_bytes(b"damaged" * 40)
    with pytest.raises(DataError, match=r"damaged.mat: cannot be read as a MATLAB file"):
        has_human_parts(tmp_path / "damaged.mat")


def test_every_part_name_of_real_people_is_known(shared: Path) -> None:
    names = set()
    for path in sorted((shared / "data/pascal_mini/human_parts").glob("*.mat")):
        for thing in loadmat(str(path))["anno"][0, 0]["objects"].flat:
            if thing["class_ind"].item() == 15:
                names |= {part["part_name"].item() for part in thing["parts"].flat}
    assert len(names) == 23  # all but the right foot
    assert names == set(PART_OF_NAME) - {"rfoot"}


def test_the_six_labels() -> None:
    groups = {label: {name for name, of in PART_OF_NAME.items() if PART_CLASSES[of] == label} for label in PART_CLASSES}
    assert groups["torso"] == {"neck", "torso"}
    assert groups["upper_arm"] == {"luarm", "ruarm"}
    assert groups["lower_arm"] == {"llarm", "rlarm", "lhand", "rhand"}
    assert groups["upper_leg"] == {"luleg", "ruleg"}
    assert groups["lower_leg"] == {"llleg", "rlleg", "lfoot", "rfoot"}
    assert len(groups["head"]) == 10
