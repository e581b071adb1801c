from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mfed_ray.report.costs import costs
from mfed_ray.report.study import Study

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("style")


def test_means_of_a_round_stacked(make_study: MakeStudy) -> None:
    """Fit 2 and 4 s: mean 3; then 1 s of aggregation, from 3 to 4; bytes in units of 1000 or a million."""
    values = {"saliency": [[0, 0.5, 0.6]]}
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": values, "seconds": (2, 1, 0.5), "bytes": (3e6, 1e6)},
        {"algorithm": "mfed", "seed": 1, "values": values, "seconds": (4, 1, 0.5), "bytes": (5e6, 1e6)},
    )
    figure = costs(study)
    seconds, size = figure.panels
    axes: Any = seconds.plot.axes[0]
    bars = axes.patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 3), (3, 1), (4, 0.5)]
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 3
    assert seconds.alt == "seconds a round: mfed 4.5 (fit 3, aggregate 1, evaluate 0.5)."
    assert size.alt == "MB a round: mfed 5 (up 4, down 1)."
    assert figure.caption == (
        "Mean of a round over all rounds but 0 and 2 seeds; bytes are of all clients together, down before they fit "
        "and up after it."
    )


def test_why_there_are_none(make_study: MakeStudy) -> None:
    study = make_study({"algorithm": "local", "seed": 0, "values": {"saliency": [[0, 1]]}})
    none = replace(study, rounds=study.rounds[:0])
    assert costs(none).missing == "The runs' rounds.parquet could not be read, or has no round yet."
