from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from mfed_ray.report.clients import client_bars
from mfed_ray.report.study import Study, studies
from mfed_ray.results.loading import Results

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("style")


def test_a_bar_for_each_client_and_variant(make_study: MakeStudy) -> None:
    """Client 0 has 0.4 and 0.6 in two seeds: 0.5; the last round alone counts."""
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.4], [0, 0.1]]}},
        {"algorithm": "mfed", "seed": 1, "values": {"saliency": [[0, 0.6], [0, 0.3]]}},
        *({"algorithm": "local", "seed": seed, "values": {"saliency": [[0, 0.2], [0, 0.2]]}} for seed in range(2)),
    )
    (panel,) = client_bars(study).panels
    axes: Any = panel.plot.axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.5, 0.2, 0.2, 0.2])
    assert [bar.get_x() for bar in axes.patches] == pytest.approx([-0.4, 0.6, 0.0, 1.0])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1"]
    assert panel.alt == ("saliency, max miou (higher is better), 2 clients: mfed 0.2 to 0.5 and local 0.2 to 0.2.")


def test_clients_are_in_the_order_of_their_numbers(make_study: MakeStudy) -> None:
    study = make_study({"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, one / 100] for one in range(12)]}})
    axes: Any = client_bars(study).panels[0].plot.axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([one / 100 for one in range(12)])


def test_clients_of_several_groups_keep_their_names(make_results: Callable[[Any], Results]) -> None:
    results = make_results([{"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.4], [0, 0.1]]}}])
    renamed = results.metrics["client"].replace("saliency-1", "human_parts+saliency-0")
    metrics = pd.DataFrame({**results.metrics, "client": renamed})
    (study,) = studies(replace(results, metrics=metrics))
    axes: Any = client_bars(study).panels[0].plot.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["human_parts+saliency-0", "saliency-0"]
