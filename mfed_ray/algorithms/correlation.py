"""How much two tasks agree: cosine of updates, linear CKA of features, or a matrix that is given."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.fusion import common_names
from mfed_ray.errors import ConfigError
from mfed_ray.messages import Params, tasks_of
from mfed_ray.params import cosine

Correlations = dict[tuple[str, str], float]
"""By ordered pair of task groups."""

Matrix = dict[str, dict[str, float]]
"""By tasks and tasks, each joined by plus signs; each pair once or twice, alike."""


def update_cosine(updates: Mapping[str, Params]) -> Correlations:
    """Cosine of the encoder updates of each ordered pair of groups, in [-1, 1]; 1 on the diagonal.

    Of encoders that differ it is that of the blocks that they have alike, 0 where there are none.
    """

    def measure(a: str, b: str) -> float:
        alike = common_names(updates[a], updates[b])
        return cosine(*({name: value for name, value in updates[x].items() if name in alike} for x in (a, b)))

    return _symmetric(list(updates), measure)


def feature_cka(features: Mapping[str, NDArray[np.float32]]) -> Correlations:
    """Linear CKA of the features of each ordered pair of groups, in [0, 1]; 1 on the diagonal."""
    grams = {group: _centred_gram(rows) for group, rows in features.items()}
    return _symmetric(list(features), lambda a, b: _alignment(grams[a], grams[b]))


def linear_cka(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) of column-centred features [rows, channels]; 0 where one is constant.

    Kornblith, Norouzi, Lee, Hinton: Similarity of Neural Network Representations Revisited, ICML 2019, equation 5.
    Computed from the Gram matrices of the rows, as in their equation 3: ||Y'X||_F^2 = <XX', YY'>.
    """
    return _alignment(_centred_gram(x), _centred_gram(y))


def _centred_gram(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """XX' [rows, rows] of column-centred features. Not a BLAS product: its bits depend on the number of threads."""
    centred = features.astype(np.float64)
    centred -= centred.mean(axis=0)
    gram: NDArray[np.float64] = np.einsum("ic,jc->ij", centred, centred, optimize=False)
    return gram


def _alignment(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    lengths = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / lengths if lengths > 0.0 else 0.0


def check_matrix(matrix: Matrix) -> None:
    """Raises ValueError for a value outside [-1, 1] and for a pair with two values."""
    for a, row in matrix.items():
        for b, value in row.items():
            if not -1.0 <= value <= 1.0:
                raise ValueError(f"correlation_matrix.{a}.{b}: {value} is outside [-1, 1]")
            if (other := matrix.get(b, {}).get(a, value)) != value:
                raise ValueError(f"correlation_matrix is not symmetric: {a}.{b} is {value}, {b}.{a} is {other}")


def check_groups(matrix: Matrix, groups: Sequence[str]) -> None:
    """Raises ConfigError for a name that is no group's tasks, and for a pair of tasks without a value."""
    groups = list(dict.fromkeys(map(tasks_of, groups)))
    if unknown := sorted({*matrix, *(b for row in matrix.values() for b in row)} - set(groups)):
        raise ConfigError(
            f"algorithm.correlation_matrix: {', '.join(unknown)} is no task group here; groups: {', '.join(groups)}"
        )
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            if _value(matrix, a, b) is None:
                raise ConfigError(f"algorithm.correlation_matrix: no value for {a} and {b}; every pair needs one")


def given(matrix: Matrix, groups: Sequence[str]) -> Correlations:
    """The matrix's values for these groups, which ``check_groups`` has passed; 1 for groups of the same tasks."""

    def measure(a: str, b: str) -> float:
        a, b = tasks_of(a), tasks_of(b)
        return 1.0 if a == b else _value(matrix, a, b) or 0.0

    return _symmetric(list(groups), measure)


def _value(matrix: Matrix, a: str, b: str) -> float | None:
    return matrix.get(a, {}).get(b, matrix.get(b, {}).get(a))


def _symmetric(groups: list[str], measure: Callable[[str, str], float]) -> Correlations:
    found: Correlations = {(group, group): 1.0 for group in groups}
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            found[a, b] = found[b, a] = measure(a, b)
    return found
