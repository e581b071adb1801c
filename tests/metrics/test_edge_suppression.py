import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mfed_ray.metrics import edge_suppression
from mfed_ray.metrics.edge_suppression import suppress


def test_a_soft_line_becomes_its_ridge() -> None:
    columns = np.arange(60)
    line = np.tile(np.exp(-((columns - 30) ** 2) / 18), (40, 1))
    ridge = suppress(line)
    assert (ridge[:, 30] > 0)[5:-5].all()
    assert not np.delete(ridge, [29, 30, 31], axis=1)[:, 10:-10].any()
    # Smoothed by [1, 2, 1] / 4 across the line; the border of 5 pixels is faded out in fifths.
    height = (1 + np.exp(-1 / 18)) / 2
    np.testing.assert_allclose(ridge[:6, 30], height * np.arange(6) / 5)
    np.testing.assert_allclose(ridge[-6:, 30], height * np.arange(6)[::-1] / 5)


def test_probabilities_stay_probabilities() -> None:
    ridge = suppress(np.ones((20, 30), dtype=np.float32))
    assert ridge.min() == 0
    assert ridge.max() == pytest.approx(1)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_diagonal_line_becomes_its_ridge(direction: int) -> None:
    y, x = np.mgrid[:50, :50]
    distance = (x - y if direction == 1 else x + y - 49) / np.sqrt(2)
    inside = np.maximum(abs(y - 24.5), abs(x - 24.5)) < 15
    ridge = suppress(np.exp(-(distance**2) / 18))
    assert (ridge[inside & (distance == 0)] > 0.9).all()
    assert not ridge[inside & (abs(distance) > 0.8)].any()


def test_an_image_of_four_pixels_has_only_border() -> None:
    np.testing.assert_array_equal(suppress(np.ones((2, 2))), np.zeros((2, 2)))


def test_equals_the_port_of_the_original() -> None:
    reference = pytest.importorskip("pyEdgeEval._lib", reason="port of edgesNmsMex")
    rng = np.random.default_rng(0)
    edges = gaussian_filter(rng.random((60, 80)), 2)
    edges = (edges - edges.min()) / np.ptp(edges)
    orientation = edge_suppression._orientation(edges)
    expected = reference.nms(edges, orientation, r=1, s=5, m=1.01)
    np.testing.assert_allclose(edge_suppression._thin_ridges(edges, orientation), expected, atol=1e-12)
