from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from mfed_ray.report.fusing import fusing_by_block
from mfed_ray.report.study import Study

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("style")
STEM, LAST = "encoder", "encoder.layer4.0"


def ran(seed: int, fusing: Sequence[tuple[Any, ...]]) -> Mapping[str, Any]:
    return {"algorithm": "mfed", "seed": seed, "values": {"saliency": [[0, 0.5]]}, "fusing": fusing}


def pair(number: int, value: float) -> list[tuple[Any, ...]]:
    return [(number, one, other, STEM, value, None, None) for one, other in (("a_b", "c"), ("c", "a_b"))]


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    """Two rounds of one seed, one of another; c has one client, and another last block."""
    first = [
        (1, "a_b", "a_b", LAST, -0.5, 2.0, 2.5),
        (1, "a_b", "a_b", STEM, 0.5, 2.0, 1.0),
        (1, "c", "c", STEM, None, 4.0, 1.0),
        *pair(1, 0.3),
        (2, "a_b", "a_b", STEM, 0.2, 4.0, 1.0),
        (2, "c", "c", STEM, None, 0.0, 0.0),
        *pair(2, -0.3),
    ]
    return make_study(ran(0, first), ran(1, [(1, "a_b", "a_b", STEM, 0.2, 2.0, 1.5), *pair(1, 0.6)]))


def test_means_over_rounds_and_seeds(study: Study) -> None:
    """Within a_b (0.5 + 0.2 + 0.2) / 3, between (0.3 - 0.3 + 0.6) / 3; of lengths 1/2, 1/4, 3/4, and of c's 1/4."""
    (figure,) = fusing_by_block(study)
    (panel,) = figure.panels
    above, below, *_ = panel.plot.axes
    meshes: list[Any] = [axes.collections[0] for axes in (above, below)]
    agreement, ratio = (mesh.get_array().filled(9) for mesh in meshes)
    np.testing.assert_allclose(agreement, np.array([[0.3, -0.5], [9, 9], [0.2, 9]]))
    np.testing.assert_allclose(ratio, np.array([[0.5, 1.25], [0.25, 9]]))
    assert [mesh.get_clim() for mesh in meshes] == [(-0.5, 0.5), (0, 1.25)]
    assert [tick.get_text() for tick in above.get_yticklabels()] == ["A", "B", "A B"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["stem", "layer4.0"]
    assert [text.get_text() for text in below.texts] == ["0.50", "1.25", "0.25"]
    assert panel.alt == (
        "Steps of 2 task groups in 2 blocks of the encoder under mfed: two clients of a group agree by -0.5 (layer4.0) "
        "to 0.3 (stem), two groups agree by 0.2 (stem) to 0.2 (stem) and the fused step has 0.25 (stem) to 1.25 "
        "(layer4.0) of the own step's length."
    )
    assert figure.caption.startswith("Mean over rounds and 2 seeds, by block")


def test_blocks_are_in_the_order_of_their_numbers(make_study: MakeStudy) -> None:
    """Of many the cells have no numbers."""
    rows = [(1, "a", "a", f"encoder.features.{index}", 0.5, 1.0, 1.0) for index in range(11)]
    (figure,) = fusing_by_block(make_study(ran(0, rows)))
    above, below, *_ = figure.panels[0].plot.axes
    assert [tick.get_text() for tick in below.get_xticklabels()] == [f"features.{index}" for index in range(11)]
    assert len(above.texts) == 0
    assert "two groups" not in figure.panels[0].alt


def test_no_figure_where_nothing_was_measured(make_study: MakeStudy) -> None:
    assert fusing_by_block(make_study(ran(0, []))) == []
