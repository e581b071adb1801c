import math

import numpy as np
import pytest

from mfed_ray.results.delta import delta_m, gain


def test_gain_by_hand() -> None:
    """0.5 to 0.6 is +20 %; 20 to 22 degrees is 10 % worse."""
    assert float(gain(0.6, 0.5, True)) == pytest.approx(20.0)
    np.testing.assert_allclose(gain([0.6, 22.0], [0.5, 20.0], [True, False]), [20.0, -10.0])


def test_a_base_of_0_or_none_has_no_gain() -> None:
    np.testing.assert_array_equal(gain([1.0, 1.0], [0.0, math.nan], [True, False]), [math.nan, math.nan])


def test_delta_m_is_the_mean_over_tasks_and_needs_them_all() -> None:
    assert delta_m([20.0, -10.0]) == 5.0
    assert math.isnan(delta_m([20.0, math.nan]))
