from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray.boundaries import label_boundaries, thin


def picture(*rows: str) -> NDArray[np.uint8]:
    return np.array([[character == "#" for character in row] for row in rows], dtype=np.uint8)


def blobs(seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    noise = rng.random(rng.integers(1, 50, size=2))
    for axis in (0, 1) * int(rng.integers(0, 4)):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > np.quantile(noise, rng.random())


def test_matlab_documentation_example_of_thinning() -> None:
    # The example of scikit-image's documentation of ``thin``, which agrees with MATLAB's bwmorph.
    square = picture(
        ".......",
        "..###..",
        "..###..",
        "..###..",
        "..###..",
        "..###..",
        ".......",
    )
    square[0, 1] = 1
    expected = picture(
        ".#.....",
        "..#....",
        "...#...",
        "...#...",
        "...#...",
        ".......",
        ".......",
    )
    np.testing.assert_array_equal(thin(square), expected)


def test_thinning_equals_scikit_image() -> None:
    morphology = pytest.importorskip("skimage.morphology", reason="reference of the thinning")
    for seed in range(200):
        mask = blobs(seed)
        np.testing.assert_array_equal(thin(mask), morphology.thin(mask))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 8)])
def test_thinning_a_full_image_keeps_it_connected(shape: tuple[int, int]) -> None:
    thinned = thin(np.ones(shape, dtype=bool))
    assert thinned.dtype == np.uint8
    assert 1 <= thinned.sum() <= max(shape)


def test_thinning_leaves_its_input_alone() -> None:
    mask = np.ones((5, 5), dtype=np.uint8)
    thin(mask)
    assert mask.all()


def test_thinning_is_idempotent() -> None:
    for seed in range(20):
        once = thin(blobs(seed))
        np.testing.assert_array_equal(thin(once), once)


def test_thinning_takes_any_nonzero_value_and_any_memory_order() -> None:
    mask = blobs(3)
    np.testing.assert_array_equal(thin(np.asfortranarray(mask * 7.5)), thin(mask))


def test_boundary_of_two_halves_lies_left_of_the_border() -> None:
    labels = np.repeat([[0, 0, 5, 5]], 3, axis=0)
    np.testing.assert_array_equal(label_boundaries(labels), picture(".#..", ".#..", ".#.."))


def test_boundary_above_the_border_of_upper_and_lower_half() -> None:
    labels = np.repeat([[1], [1], [2]], 4, axis=1)
    np.testing.assert_array_equal(label_boundaries(labels), picture("....", "####", "...."))


def test_boundary_touches_a_lower_right_neighbour() -> None:
    labels = np.array([[1, 1], [1, 2]])
    # seg2bmap marks all but the last pixel; thinning leaves the diagonal.
    np.testing.assert_array_equal(label_boundaries(labels), thin(picture("##", "#.")))


def test_one_region_has_no_boundary() -> None:
    assert not label_boundaries(np.full((4, 6), 459, dtype=np.uint16)).any()
