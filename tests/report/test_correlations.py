from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mfed_ray.report.correlations import correlation_matrices
from mfed_ray.report.study import Study

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("style")


def measured(seed: int, value: float, *, fused: bool) -> Mapping[str, Any]:
    pairs = [
        (1, "a", "a", 1.0, True),
        (1, "a", "b", value, fused),
        (1, "b", "a", value, True),
        (1, "b", "b", 1.0, True),
    ]
    return {"algorithm": "mfed", "seed": seed, "values": {"saliency": [[0, 0.5]]}, "correlations": pairs}


def test_means_and_marks(make_study: MakeStudy) -> None:
    """Mean of 0.2 and -0.6 is -0.2; a got b's encoder in one seed of two, b got a's in both."""
    figure = correlation_matrices(make_study(measured(0, 0.2, fused=True), measured(1, -0.6, fused=False)))
    (panel,) = figure.panels
    axes: Any = panel.plot.axes[0]
    mesh, always, sometimes = axes.collections
    np.testing.assert_allclose(mesh.get_array().filled(9), np.array([[9, -0.2], [-0.2, 9]]))
    assert mesh.get_clim() == pytest.approx((-0.2, 0.2))
    np.testing.assert_array_equal(always.get_offsets(), [[0, 1]])  # column a, row b
    np.testing.assert_array_equal(sometimes.get_offsets(), [[1, 0]])
    assert len(sometimes.get_facecolors()) == 0
    assert panel.alt == (
        "Correlations of 2 task groups under mfed at rounds 1. At round 1 from -0.2 (a, b) to -0.2 (a, b); "
        "2 of 2 ordered pairs fused."
    )
    assert "Mean over 2 seeds." in figure.caption


def test_of_many_rounds_six_are_shown_from_first_to_last(make_study: MakeStudy) -> None:
    """linspace(0, 10, 6) over rounds 1..11."""
    rows = [(number, "a", "b", 0.1, False) for number in range(1, 12)]
    study = make_study({"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0] * 12]}, "correlations": rows})
    plot = correlation_matrices(study).panels[0].plot
    titles = [axes.get_title(loc="left") for axes in plot.axes if axes.get_title(loc="left")]
    assert titles == [f"round {number}" for number in (1, 3, 5, 7, 9, 11)]


def test_one_group_has_no_pair(make_study: MakeStudy) -> None:
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 1]]}, "correlations": [(1, "a", "a", 1.0, True)]}
    )
    assert correlation_matrices(study).panels[0].alt.endswith("There is no pair of groups.")


def test_why_there_are_none(make_study: MakeStudy) -> None:
    study = make_study({"algorithm": "local", "seed": 0, "values": {"saliency": [[0, 1]]}})
    assert correlation_matrices(study).missing == "No algorithm here measures correlations of task groups (local)."
