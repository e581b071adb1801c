"""The conflict-averse mix: by hand, against its own duality gap, against SciPy, and where it degenerates."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from mfed_ray.algorithms.conflict_averse import Matrix, conflict_averse_mix, gram, worst_weights


def objective(products: Matrix, aversion: float, weights: Matrix) -> float:
    """f(w), as the paper has it."""
    norm = np.sqrt(max(float(weights @ products @ weights), 0.0))
    return float(weights @ products.mean(axis=1) + aversion * np.sqrt(max(float(products.mean()), 0.0)) * norm)


def random_updates(generator: np.random.Generator, count: int, kind: str) -> Matrix:
    """[count, d]: independent, of lengths from 1 to 1e-4, nearly alike, or with a pair of the same."""
    rows = generator.standard_normal((count, 2 * count + 3))
    if kind == "lengths":
        rows *= np.logspace(0, -4, count)[:, None]
    if kind == "alike":
        rows += 3 * generator.standard_normal(rows.shape[1])
    if kind == "twins":
        rows[-1] = rows[0]
    return rows


KINDS = ["independent", "lengths", "alike", "twins"]


def test_gram_by_hand() -> None:
    assert gram(np.array([[1.0, 2.0], [3.0, 4.0], [0.0, -1.0]])).tolist() == [[5, 11, -2], [11, 25, -4], [-2, -4, 1]]


def test_minimum_at_a_vertex_by_hand() -> None:
    """Updates (6, 0) and (0, 8): mean (3, 4) of length 5, c' = 0.4 * 5 = 2, b = (6 * 3, 8 * 4) = (18, 32).

    At w = (1, 0): G w = (6, 0), f's slopes are b + c' (6, 0) = (30, 32): the first is smallest, so it is the minimum.
    U = ((3, 4) + 2 (1, 0)) / 1.16 = (5, 4) / 1.16.
    """
    updates = np.array([[6.0, 0.0], [0.0, 8.0]])
    assert worst_weights(gram(updates), 0.4) == pytest.approx([1.0, 0.0], abs=1e-9)
    assert conflict_averse_mix(gram(updates), 0.4) @ updates == pytest.approx([5 / 1.16, 4 / 1.16])


def test_minimum_inside_by_hand() -> None:
    """Updates (2.6, 6.8) and (7.4, -6.8): mean (5, 0), c' = 0.6 * 5 = 3.

    At w = (5, 1) / 6: G w = (20.4, 27.2) / 6, along (0.6, 0.8); d = (5, 0) + 3 (0.6, 0.8) = (6.8, 2.4). f's slopes
    <Delta_i, d> are 17.68 + 16.32 = 34 and 50.32 - 16.32 = 34, equal: the minimum. U = d / 1.36.
    """
    updates = np.array([[2.6, 6.8], [7.4, -6.8]])
    assert worst_weights(gram(updates), 0.6) == pytest.approx([5 / 6, 1 / 6], abs=1e-9)
    assert conflict_averse_mix(gram(updates), 0.6) @ updates == pytest.approx([6.8 / 1.36, 2.4 / 1.36])


@pytest.mark.parametrize("count", [1, 2, 3, 10, 40, 100])
@pytest.mark.parametrize("aversion", [0.01, 0.4, 2.0])
def test_no_point_of_the_simplex_is_better(count: int, aversion: float) -> None:
    """f is convex and, like its slopes, homogeneous: min_i of the slopes at w bounds its minimum from below."""
    generator = np.random.default_rng(count)
    for kind in KINDS:
        products = gram(random_updates(generator, count, kind))
        weights = worst_weights(products, aversion)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
        mean, norm = np.sqrt(products.mean()), np.sqrt(weights @ products @ weights)
        slopes = products.mean(axis=1) + aversion * mean * (products @ weights) / norm
        scale = mean * np.sqrt(products.diagonal().max())
        assert objective(products, aversion, weights) - slopes.min() <= 1e-10 * scale, kind


@pytest.mark.parametrize("count", [2, 3, 8, 20])
def test_never_worse_than_slsqp(count: int) -> None:
    """The solver of the authors' code. Updates that span fewer dimensions than there are have 0 in their hull."""
    generator = np.random.default_rng(count)
    for case in range(12):
        rows = random_updates(generator, count, KINDS[case % 4])
        products = gram(rows if case < 8 else rows[:, : count // 2])
        products /= products.diagonal().max()
        found = minimize(
            partial(objective, products, 0.4),
            np.full(count, 1 / count),
            bounds=[(0, 1)] * count,
            constraints=LinearConstraint(np.ones(count), 1, 1),
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        ).x
        found = np.clip(found, 0, None) / np.clip(found, 0, None).sum()
        ours = objective(products, 0.4, worst_weights(products, 0.4))
        assert ours <= objective(products, 0.4, found) + 1e-9, case


def test_mix_is_the_same_for_whoever_comes_first() -> None:
    rows = random_updates(np.random.default_rng(0), 6, "lengths")
    order = [3, 0, 5, 1, 4, 2]
    assert conflict_averse_mix(gram(rows[order]), 0.4) == pytest.approx(conflict_averse_mix(gram(rows), 0.4)[order])


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ([[0, 0], [0, 0]], [0, 0]),  # nobody moved
        ([[3, 4]], [3 * 1.5 / 1.25, 4 * 1.5 / 1.25]),  # alone: G w is the mean, U = (1 + c) / (1 + c^2) Delta
        ([[3, 4], [3, 4], [3, 4]], [3 * 1.5 / 1.25, 4 * 1.5 / 1.25]),  # all alike: any w is best
        ([[1, 2], [-1, -2]], [0, 0]),  # the mean is 0, and c' with it
        ([[0, 1], [0, -1], [3, 0]], [1 / 1.25, 0]),  # the best is G w = 0, f = 0: the mean (1, 0) alone
        ([[0, 0], [2, 1], [4, 5]], [2 / 1.25, 2 / 1.25]),  # one stood still, and is the worst: f = 0, the mean (2, 2)
    ],
)
def test_degenerate(updates: list[list[float]], expected: list[float]) -> None:
    rows = np.array(updates, np.float64)
    assert conflict_averse_mix(gram(rows), 0.5) @ rows == pytest.approx(expected, abs=1e-9)


def test_no_aversion_gives_the_mean() -> None:
    assert conflict_averse_mix(gram(np.array([[6.0, 0.0], [0.0, 8.0]])), 0.0).tolist() == [0.5, 0.5]


def test_updates_that_are_not_finite_come_to_an_end() -> None:
    assert len(conflict_averse_mix(np.array([[1.0, np.nan], [np.nan, np.nan]]), 0.4)) == 2
