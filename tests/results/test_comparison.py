import numpy as np
import pytest

from mfed_ray.results.comparison import holm, paired_p


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04: times 3, 2, 1 gives 0.03, 0.06, 0.04; none below its predecessor; none above 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]


def test_paired_p_by_hand() -> None:
    """Gains 1, 2, 3: t = 2 / (1 / sqrt(3)), and P(|T| > t) = 1 - t / sqrt(2 + t^2) for two degrees of freedom."""
    assert paired_p([1.0, 2.0, 3.0]) == pytest.approx(1 - np.sqrt(12 / 14))
    assert paired_p([-1.0, -2.0, -3.0]) == pytest.approx(1 - np.sqrt(12 / 14))


@pytest.mark.parametrize("gains", [[0.0, 0.0, 0.0], [0.1 + 0.2, 0.3, 0.3]])
def test_equal_gains_are_not_tested(gains: list[float]) -> None:
    """Their t would be infinite, by rounding if not by chance."""
    assert np.isnan(paired_p(gains))
