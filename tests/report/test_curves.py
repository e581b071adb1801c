from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mfed_ray.report.curves import learning_curves
from mfed_ray.report.study import Study
from mfed_ray.report.style import BASELINE, LOOKS

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("style")


def test_points_bands_and_words(make_study: MakeStudy) -> None:
    """Two seeds, 0.3 and 0.5 at round 1 and 0.6 and 0.6 at round 2: means 0.4, 0.6; sd 0.1414 and 0."""
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0.1, 0.2, 0.5], [0.1, 0.4, 0.7]]}},
        {"algorithm": "mfed", "seed": 1, "values": {"saliency": [[0.1, 0.5, 0.6], [0.1, 0.5, 0.6]]}},
        *({"algorithm": "local", "seed": seed, "values": {"saliency": [[0.1, 0.2, 0.5]]}} for seed in range(2)),
    )
    figure = learning_curves(study)
    (panel,) = figure.panels
    axes: Any = panel.plot.axes[0]
    mfed, local = axes.lines
    np.testing.assert_allclose(mfed.get_xydata(), [[0, 0.1], [1, 0.4], [2, 0.6]])
    np.testing.assert_allclose(local.get_xydata(), [[0, 0.1], [1, 0.2], [2, 0.5]])
    assert (mfed.get_color(), local.get_color()) == (LOOKS[0].colour, BASELINE.colour)
    band, _ = axes.collections
    heights = band.get_paths()[0].vertices
    at_one = heights[heights[:, 0] == 1][:, 1]
    np.testing.assert_allclose([at_one.min(), at_one.max()], [0.4 - 0.2 / 2**0.5, 0.4 + 0.2 / 2**0.5])
    assert axes.get_ylabel() == "max miou ↑"
    assert panel.alt == (
        "saliency, max miou (higher is better), over rounds 0 to 2 for 2 variants. At the last round, best first: "
        "mfed 0.6 and local 0.5; range 0.5 to 0.6; 2 seeds."
    )
    assert "mean over clients and 2 seeds" in figure.caption


def test_of_many_variants_the_best_are_in_colour(make_study: MakeStudy) -> None:
    """Nine weights: six colours and local, the three worst in one grey line of three pieces of two points."""
    runs = [
        {
            "algorithm": "mfed",
            "seed": 0,
            "keys": {"algorithm.decoder_proximal_weight": weight},
            "values": {"surface_normals": [[90, 20 + weight]]},
        }
        for weight in range(9)
    ]
    study = make_study(*runs, {"algorithm": "local", "seed": 0, "values": {"surface_normals": [[90, 24.5]]}})
    figure = learning_curves(study)
    axes: Any = figure.panels[0].plot.axes[0]
    grey, *coloured = axes.lines
    ends = grey.get_ydata().reshape(3, 3)
    np.testing.assert_allclose(ends[:, :2], [[90, 26], [90, 27], [90, 28]])
    assert np.isnan(ends[:, 2]).all()
    assert [line.get_ydata()[-1] for line in coloured] == [20, 21, 22, 23, 24, 24.5, 25]
    assert len({(line.get_color(), line.get_marker()) for line in coloured}) == 7
    labels = [text.get_text() for text in figure.panels[0].plot.legends[0].get_texts()]
    assert labels[:2] == ["3 others", "mfed λ=0"]
    assert "Of 10 variants, the best 7 by Delta_m (with local training) are in colour, the other 3" in figure.caption
    assert "λ is decoder_proximal_weight." in figure.caption
    assert "best first: mfed decoder_proximal_weight=0 20, " in figure.panels[0].alt


def test_floors_are_dashed_lines(make_study: MakeStudy) -> None:
    """Of two clients 0.25 and 0.75. A task whose runs tell none has no line."""
    values = {"saliency": [[0.1, 0.6], [0.1, 0.6]], "human_parts": [[0.1, 0.6]]}
    told = {"algorithm": "mfed", "seed": 0, "values": values}
    study = make_study({**told, "floors": {"saliency": [0.25, 0.75]}})
    figure = learning_curves(study)
    by_task: dict[str, Any] = {panel.name: panel for panel in figure.panels}
    curve, floor = by_task["saliency"].plot.axes[0].lines
    np.testing.assert_allclose(curve.get_ydata(), [0.1, 0.6])
    np.testing.assert_allclose(floor.get_ydata(), [0.5, 0.5])
    assert by_task["saliency"].alt.endswith("1 seed. Floor 0.5.")
    assert [text.get_text() for text in by_task["saliency"].plot.legends[0].get_texts()] == ["mfed", "floor"]
    assert len(by_task["human_parts"].plot.axes[0].lines) == 1
    assert "The floor is what the best prediction" in figure.caption
    assert "floor" not in learning_curves(make_study(told)).caption


def test_runs_that_were_stopped_are_told(make_study: MakeStudy) -> None:
    study = make_study({"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.9]]}, "planned": 2})
    figure = learning_curves(study)
    assert "Before their last round: mfed stopped at 1 of 2." in figure.caption
    (label,) = figure.panels[0].plot.legends[0].get_texts()
    assert label.get_text() == "mfed (stopped at 1 of 2)"
