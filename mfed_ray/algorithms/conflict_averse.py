"""Conflict-averse mixing of updates: close to their mean, and good for whoever gains least.

Liu, Liu, Jin, Stone, Liu: Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, arXiv 2110.14048
(Algorithm 1, its update divided by 1 + c^2, as their code does by default). Of N updates G = [Delta_1 ... Delta_N] all
that matters is the Gram matrix A = G^T G, [N, N]:

    f(w) = w^T b + c' sqrt(w^T A w),  b = A 1/N,  c' = c sqrt(mean(A)) = c ||mean Delta||
    w*   = argmin f over the simplex
    U    = (mean Delta + c' G w* / ||G w*||) / (1 + c^2)

Where G w* = 0 the second term has no direction and is left out.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

GAP = 1e-11
"""Largest distance to the minimum of f, as a share of its scale ||mean Delta|| max ||Delta_i||."""

VANISHED = 1e-14
"""||G w||^2 up to this share of the largest ||Delta_i||^2 is rounding error of the Gram matrix."""

_GROWTH = 10.0
_MOST_STEPS = 1000
"""Matrices of 100 updates take 250 to 350; ones that are not finite would take for ever."""

_LARGEST_CURVATURE = 1e14
"""Beyond it the barrier's own curvature, 1, drowns in rounding error: only where G w has vanished."""


def gram(rows: Matrix) -> Matrix:
    """Sums of products of all pairs of rows, [N, d] to [N, N]: exactly symmetric, and no BLAS in it."""
    found = np.empty((len(rows), len(rows)))
    for i, row in enumerate(rows):
        found[i, i:] = found[i:, i] = np.einsum("jd,d->j", rows[i:], row)
    return found


def conflict_averse_mix(products: Matrix, aversion: float) -> Matrix:
    """The u with U = G u, [N], of the Gram matrix ``products`` and c = ``aversion``."""
    count = len(products)
    weights = worst_weights(products, aversion)
    square = float(weights @ products @ weights)
    mix = np.full(count, 1.0 / count)
    if square > VANISHED * products.diagonal().max():
        mix += aversion * np.sqrt(max(products.mean(), 0.0) / square) * weights
    mix /= 1.0 + aversion**2
    return mix


def worst_weights(products: Matrix, aversion: float) -> Matrix:
    """w*, [N], by an interior-point method.

    Newton steps of length 1 / (1 + decrement) on the self-concordant barrier of min b^T w + c s, s >= sqrt(w^T A w):

        tau (b^T w + c s) - log(s^2 - w^T A w) - sum_i log w_i,  1^T w = 1

    at its minimum over s, which is k + sqrt(k^2 + w^T A w) with k = 1 / (tau c). A is scaled to a largest diagonal
    entry of 1 and f by ||mean Delta||. Near the barrier's minimum tau grows, until the gap, (N + 2) / tau, is GAP.
    """
    count, largest = len(products), float(products.diagonal().max())
    mean = max(float(products.mean()), 0.0)
    if mean * aversion == 0.0:
        best: Matrix = np.eye(count)[products.mean(axis=1).argmin()]
        return best
    scaled, linear = products / largest, products.mean(axis=1) / np.sqrt(mean * largest)
    weights, tau = np.full(count, 1.0 / count), 1.0
    for _ in range(_MOST_STEPS):
        gradient, hessian = _barrier(scaled, linear, aversion, weights, tau)
        if hessian.diagonal().max() > _LARGEST_CURVATURE:
            break
        step, decrement = _newton(gradient, hessian, weights)
        weights = weights * (1.0 + step / (1.0 + decrement))
        weights /= weights.sum()
        if decrement < 0.25:
            if (count + 2) / tau <= GAP:
                break
            tau *= _GROWTH
    return weights


def _barrier(products: Matrix, linear: Matrix, aversion: float, weights: Matrix, tau: float) -> tuple[Matrix, Matrix]:
    """Gradient and Hessian of the barrier by relative changes of the weights, dw_i / w_i."""
    slack, image = 1.0 / (tau * aversion), products @ weights
    root = np.sqrt(slack**2 + max(float(weights @ image), 0.0))
    norm = slack + root
    gradient = tau * (linear + aversion * image / norm) * weights - 1.0
    curvature = products / norm - np.outer(image, image) / (norm**2 * root)
    return gradient, tau * aversion * curvature * np.outer(weights, weights) + np.eye(len(weights))


def _newton(gradient: Matrix, hessian: Matrix, weights: Matrix) -> tuple[Matrix, float]:
    """The relative step that keeps the weights' sum, and its length in the Hessian's metric."""
    basis = np.linalg.qr(weights[:, None], mode="complete")[0][:, 1:]
    slope = basis.T @ gradient
    step = -np.linalg.solve(basis.T @ hessian @ basis, slope)
    # at least the step's own length, which rounding could hide: no weight becomes negative
    return basis @ step, float(np.sqrt(max(-(slope @ step), step @ step)))
