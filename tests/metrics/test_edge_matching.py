from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from mfed_ray.metrics.edge_matching import match, reach


def matched(prediction: NDArray[Any], truth: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    pixels = np.flatnonzero(prediction).astype(np.int32)
    used = np.zeros(prediction.size, dtype=bool)
    used[pixels] = match(pixels, reach(truth.astype(np.uint8), radius))
    return used.reshape(prediction.shape)


def points(shape: tuple[int, int], *positions: tuple[int, int]) -> NDArray[np.uint8]:
    image = np.zeros(shape, dtype=np.uint8)
    image[tuple(np.transpose(positions))] = 1
    return image


def pairs_in_reach(prediction: NDArray[Any], truth: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    here, there = np.argwhere(prediction), np.argwhere(truth)
    squared = ((here[:, None] - there[None]) ** 2).sum(axis=2)
    return np.asarray(squared <= radius**2)


def test_reach_lists_the_nearest_first() -> None:
    reachable = reach(points((1, 6), (0, 0), (0, 3)), radius=2.0)
    assert reachable.points == 2
    at = [reachable.truth[reachable.start[p] : reachable.start[p + 1]].tolist() for p in range(6)]
    assert at == [[0], [0, 1], [1, 0], [1], [1], [1]]
    assert reachable.distance[reachable.start[1] : reachable.start[3]].tolist() == [1, 4, 1, 4]


@pytest.mark.parametrize(("offset", "radius", "expected"), [(1, 1.0, True), (2, 1.9, False), (2, 2.0, True)])
def test_the_radius_is_inclusive(offset: int, radius: float, expected: bool) -> None:
    used = matched(points((1, 5), (0, offset)), points((1, 5), (0, 0)), radius)
    assert used[0, offset] == expected


def test_distance_is_euclidean() -> None:
    prediction, truth = points((5, 5), (1, 1)), points((5, 5), (0, 0))
    assert not matched(prediction, truth, 1.4).any()
    assert matched(prediction, truth, 1.5).any()


def test_each_annotated_pixel_is_matched_once_and_by_the_nearest() -> None:
    used = matched(points((1, 5), (0, 1), (0, 2), (0, 4)), points((1, 5), (0, 2)), 2.0)
    np.testing.assert_array_equal(used, points((1, 5), (0, 2)))


def test_a_crossing_that_greedy_matching_gets_wrong() -> None:
    # The left pixel is nearer to the point that is the only one the right pixel reaches.
    prediction = points((2, 6), (0, 1), (0, 4))
    truth = points((2, 6), (0, 2), (1, 0))
    np.testing.assert_array_equal(matched(prediction, truth, 2.0), prediction)


def test_of_two_pixels_that_make_the_matching_maximum_the_nearer_is_used() -> None:
    # (5, 5) must leave its own point for (5, 7), which it alone reaches; (3, 5) and (4, 5) reach just the point left.
    prediction = points((9, 9), (3, 5), (4, 5), (5, 5))
    truth = points((9, 9), (5, 5), (5, 7))
    np.testing.assert_array_equal(matched(prediction, truth, 2.0), points((9, 9), (4, 5), (5, 5)))


def test_as_many_pairs_as_any_matching() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        prediction, truth = rng.random((2, 20, 25)) < rng.uniform(0.02, 0.4, size=(2, 1, 1))
        radius = rng.uniform(1, 5)
        graph = csr_array(pairs_in_reach(prediction, truth, radius))
        best = np.count_nonzero(maximum_bipartite_matching(graph, perm_type="column") >= 0)
        assert np.count_nonzero(matched(prediction, truth, radius)) == best


@pytest.mark.parametrize("empty", ["prediction", "truth", "both"])
def test_nothing_matches_nothing(empty: str) -> None:
    full, none = np.ones((3, 3), dtype=np.uint8), np.zeros((3, 3), dtype=np.uint8)
    prediction = full if empty == "truth" else none
    truth = full if empty == "prediction" else none
    assert not matched(prediction, truth, 2.0).any()
