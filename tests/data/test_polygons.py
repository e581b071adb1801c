import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle
from scipy import ndimage

from mfed_ray.data.polygons import polygons, runs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decode


def _mask(picture: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in picture.split()])


def _rasterised(outlines: list[list[int]], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    decoded = rle.decode(rle.merge(rle.frPyObjects(outlines, *mask.shape)))
    return np.asarray(decoded, bool)


def _area(outline: list[int]) -> float:
    x, y = np.array(outline[::2]), np.array(outline[1::2])
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("... .#. ...", [[1, 1, 2, 1, 2, 2, 1, 2]]),
        ("#.. ##. ...", [[0, 0, 1, 0, 1, 1, 2, 1, 2, 2, 0, 2]]),
        ("#. .#", [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]),
        ("### #.# ###", [[0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 3, 0, 3], [2, 0, 3, 0, 3, 3, 2, 3]]),
        (".", []),
    ],
)
def test_outlines_worked_by_hand(picture: str, expected: list[list[int]]) -> None:
    assert polygons(_mask(picture)) == expected
    assert sum(_area(one) for one in expected) == _mask(picture).sum()


def test_a_part_that_touches_itself_at_a_corner_is_one_outline() -> None:
    mask = _mask("##. #.# ###")  # the gap is open at the corner (2, 1) only
    assert polygons(mask) == [[0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 1, 3, 1, 3, 3, 0, 3]]
    np.testing.assert_array_equal(_rasterised(polygons(mask), mask), mask)


@pytest.mark.parametrize("smoothness", [0.0, 0.6, 1.2, 2.5])
def test_random_masks_rasterise_exactly(smoothness: float) -> None:
    rng = np.random.default_rng(round(10 * smoothness))
    for shape in [(1, 1), (1, 7), (9, 1), (16, 12), (23, 31), (48, 40)] * 5:
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), smoothness)
        mask = noise > np.quantile(noise, rng.uniform(0.05, 0.95)) - 1e-9
        outlines = polygons(mask)
        np.testing.assert_array_equal(_rasterised(outlines, mask), mask)
        assert sum(_area(one) for one in outlines) == mask.sum(), "clockwise, none in another's place"


def test_holes_within_holes_and_the_border_of_the_image() -> None:
    rows, columns = np.indices((31, 31))
    rings = np.maximum(abs(rows - 15), abs(columns - 15)) % 2 == 1
    for mask in (rings, ~rings, np.ones((5, 5), bool), np.indices((8, 8)).sum(axis=0) % 2 == 0):
        np.testing.assert_array_equal(_rasterised(polygons(mask), mask), mask)


def test_runs_go_down_the_columns() -> None:
    assert runs(_mask(".# ##")) == [1, 3]
    assert runs(_mask("#. .#")) == [0, 1, 2, 1]
    assert runs(_mask(".. ..")) == [4]
    assert runs(_mask("## ##")) == [0, 4]


def test_runs_are_pycocotools_own() -> None:
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        mask = rng.random((13, 17)) < share
        encoded = rle.frPyObjects({"size": [13, 17], "counts": runs(mask)}, 13, 17)
        np.testing.assert_array_equal(rle.decode(encoded), mask)
        assert encoded["counts"] == rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
