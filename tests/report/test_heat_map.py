from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mfed_ray.report.heat_map import heat_maps
from mfed_ray.report.study import Study

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("style")

WEIGHT, THRESHOLD = "algorithm.decoder_proximal_weight", "algorithm.correlation_threshold"
LOCAL = {"algorithm": "local", "seed": 0, "values": {"saliency": [[0, 0.5]]}}


def mfed(value: float, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"algorithm": "mfed", "seed": 0, "keys": keys, "values": {"saliency": [[0, value]]}}


def test_cells_are_delta_m(make_study: MakeStudy) -> None:
    """0.55 against 0.5 is +10 %, 0.45 is -10 %, 0.6 is +20 %; one pair was not run."""
    study = make_study(
        LOCAL,
        mfed(0.55, {WEIGHT: 0.01, THRESHOLD: -1.0}),
        mfed(0.45, {WEIGHT: 0.1, THRESHOLD: -1.0}),
        mfed(0.6, {WEIGHT: 0.01, THRESHOLD: "judged"}),
    )
    (panel,) = heat_maps(study).panels
    axes: Any = panel.plot.axes[0]
    (mesh,) = axes.collections
    cells = mesh.get_array()
    np.testing.assert_allclose(cells.filled(99), [[10, -10], [20, 99]], rtol=1e-12)
    assert mesh.get_clim() == pytest.approx((-20, 20))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.01", "0.1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["-1", "judged"]
    assert axes.get_xlabel() == "λ (decoder_proximal_weight)"
    assert {text.get_text() for text in axes.texts} == {"+10.0", "-10.0", "+20.0"}
    assert panel.alt == (
        "Delta_m of mfed over decoder_proximal_weight and correlation_threshold, 3 cells: best +20.00 % at "
        "decoder_proximal_weight 0.01, correlation_threshold judged, worst -10.00 % at decoder_proximal_weight 0.1, "
        "correlation_threshold -1."
    )


def test_a_third_key_is_averaged_over_and_said(make_study: MakeStudy) -> None:
    """+10 % and +20 % with two encoders: +15 %."""
    study = make_study(
        LOCAL,
        mfed(0.55, {WEIGHT: 0.01, THRESHOLD: -1.0, "model.encoder": "resnet18"}),
        mfed(0.6, {WEIGHT: 0.01, THRESHOLD: -1.0, "model.encoder": "resnet34"}),
        mfed(0.5, {WEIGHT: 0.1, THRESHOLD: 0.0, "model.encoder": "resnet18"}),
    )
    figure = heat_maps(study)
    mesh: Any = figure.panels[0].plot.axes[0].collections[0]
    np.testing.assert_allclose(mesh.get_array().filled(np.nan), [[15, np.nan], [np.nan, 0]], atol=1e-12)
    assert figure.caption.endswith("Each cell is the mean over the values of model.encoder.")


def test_one_key_makes_one_row_in_the_order_of_numbers(make_study: MakeStudy) -> None:
    """100 after 9, though not as text."""
    study = make_study(LOCAL, *(mfed(0.5 + weight / 1000, {"algorithm.rate": weight}) for weight in (100, 9, 50)))
    axes: Any = heat_maps(study).panels[0].plot.axes[0]
    np.testing.assert_allclose(axes.collections[0].get_array().filled(np.nan), [[1.8, 10, 20]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["9", "50", "100"]


def test_a_random_search_becomes_points(make_study: MakeStudy) -> None:
    """Four pairs of sixteen: the i-th weight with the i-th threshold."""
    pairs = [mfed(0.5 + i / 100, {WEIGHT: 0.1 * i, THRESHOLD: 0.2 * i}) for i in range(4)]
    axes: Any = heat_maps(make_study(LOCAL, *pairs)).panels[0].plot.axes[0]
    (points,) = axes.collections
    np.testing.assert_allclose(points.get_offsets(), [[i, i] for i in range(4)])
    np.testing.assert_allclose(points.get_array(), [0, 2, 4, 6], atol=1e-9)


def test_why_there_is_none(make_study: MakeStudy) -> None:
    one = make_study(LOCAL, mfed(0.6, {}))
    assert heat_maps(one).missing == (
        "No algorithm ran with more than one configuration, so there is no key to compare Delta_m over."
    )
    alone = make_study(mfed(0.6, {WEIGHT: 0.1}), mfed(0.5, {WEIGHT: 0.2}))
    assert heat_maps(alone).missing == (
        "Delta_m compares with local training, and no run here has one local run of the same setting and seed."
    )
