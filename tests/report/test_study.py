import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mfed_ray.evaluation import Headline
from mfed_ray.report.curves import learning_curves
from mfed_ray.report.study import Study, studies
from mfed_ray.report.style import BASELINE, LOOKS
from mfed_ray.results.loading import Results, load
from tests.results.conftest import rewrite_as_version_2

MakeStudy = Callable[..., Study]
MakeResults = Callable[[Any], Results]


def test_delta_m_and_order(make_study: MakeStudy) -> None:
    """saliency 0.5 -> 0.6 is +20 %, normals 20 -> 22 degrees is -10 %: +5 % together; a NaN comes last."""
    local = {"algorithm": "local", "seed": 0, "values": {"saliency": [[0, 0.5]], "surface_normals": [[90, 20]]}}
    good = {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.6]], "surface_normals": [[90, 22]]}}
    alone = {"algorithm": "fedavg", "seed": 1, "values": {"saliency": [[0, 0.9]], "surface_normals": [[90, 2]]}}
    study = make_study(alone, good, local)
    assert study.deltas["mfed"] == pytest.approx(5.0)
    assert study.deltas["local"] == 0.0
    assert study.variants == ["mfed", "local", "fedavg"]
    assert study.algorithms == ["mfed", "local", "fedavg"]
    assert study.tasks == ["saliency", "surface_normals"]
    assert study.looks == {"mfed": LOOKS[0], "local": BASELINE, "fedavg": LOOKS[1]}


def test_without_delta_m_the_mean_rank_over_tasks_decides(make_study: MakeStudy) -> None:
    """a is 1st and 1st, b 3rd and 2nd, c 2nd and 3rd; b before c by name."""
    scores = {"ditto": (0.6, 10), "fedper": (0.4, 20), "fedrep": (0.5, 30)}
    study = make_study(*(
        {"algorithm": name, "seed": 0, "values": {"saliency": [[0, one]], "surface_normals": [[90, other]]}}
        for name, (one, other) in scores.items()
    ))  # fmt: skip
    assert study.variants == ["ditto", "fedper", "fedrep"]


def test_means_over_clients_then_seeds(make_study: MakeStudy) -> None:
    """Seeds 0.3 and 0.5 at round 1: mean 0.4, sd 0.2 / sqrt 2."""
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.2], [0, 0.4]]}},
        {"algorithm": "mfed", "seed": 1, "values": {"saliency": [[0.2, 0.4], [0.2, 0.6]]}},
    )
    (first, last) = study.curves.to_dict("records")
    assert (first["round"], first["mean"]) == (0, pytest.approx(0.1))
    assert (last["round"], last["mean"], last["sd"]) == (1, pytest.approx(0.4), pytest.approx(0.2 / 2**0.5))
    assert study.ends["mean"].tolist() == pytest.approx([0.4])


def test_runs_that_have_not_finished_count_only_where_none_has(make_study: MakeStudy) -> None:
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0, 0.2, 0.4]]}},
        {"algorithm": "mfed", "seed": 1, "values": {"saliency": [[0, 0.9]]}, "planned": 2},
        {"algorithm": "fedavg", "seed": 0, "values": {"saliency": [[0, 0.3]]}, "planned": 5},
    )
    assert sorted(zip(study.runs["variant"], study.runs["seed"], strict=True)) == [("fedavg", 0), ("mfed", 0)]
    assert study.stopped == {"fedavg": "stopped at 1 of 5"}
    ends = study.ends.set_index("variant")["mean"]
    assert ends.to_dict() == {"fedavg": 0.3, "mfed": 0.4}


def test_before_aggregation_where_nothing_came_after(make_study: MakeStudy) -> None:
    study = make_study(
        {"algorithm": "mfed", "seed": 0, "values": {"saliency": [[0.1, 0.2]]}, "stage": "before_aggregation"}
    )
    assert study.stage == "before_aggregation"
    assert study.curves["round"].tolist() == [0, 1]


def test_one_study_per_experiment_that_was_trained(make_results: MakeResults) -> None:
    values = {"saliency": [[0.1, 0.2]]}
    results = make_results([
        {"experiment": "b", "algorithm": "mfed", "seed": 0, "values": values},
        {"experiment": "a", "algorithm": "mfed", "seed": 0, "values": values},
        {"experiment": "c", "algorithm": "mfed", "seed": 0, "values": {"saliency": [[0.1]]}, "planned": 2},
    ])  # fmt: skip
    assert [study.name for study in studies(results)] == ["a", "b"]


@pytest.mark.usefixtures("style")
def test_a_task_from_outside_of_the_package(make_results: MakeResults) -> None:
    """Its table says by what it is judged, and that less is better: 2 m before 3 m."""
    values = {"local": 3.0, "mfed": 2.0}
    results = make_results([
        {"algorithm": name, "seed": 0, "values": {"surface_normals": [[9.0, error]], "saliency": [[0, 0.5]]}}
        for name, error in values.items()
    ])  # fmt: skip
    names = {"task": {"surface_normals": "depth"}, "metric": {"mean_error": "rmse"}}
    (study,) = studies(replace(results, metrics=results.metrics.replace(names)))
    assert study.tasks == ["saliency", "depth"]
    assert study.judged_by["depth"] == Headline("rmse", higher_is_better=False)
    assert study.variants == ["mfed", "local"]
    panel = learning_curves(study).panels[1]
    assert panel.plot.axes[0].get_ylabel() == "rmse ↓"
    assert panel.alt.startswith("depth, rmse (lower is better), over rounds 0 to 1 for 2 variants.")


def test_runs_of_version_2_are_reported_as_new_ones(real_runs: Path, tmp_path: Path) -> None:
    for folder in real_runs.iterdir():
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("checkpoints"))
        rewrite_as_version_2(tmp_path / folder.name)
    (new,), (old,) = (studies(load(place)) for place in (real_runs, tmp_path))
    assert old.judged_by == new.judged_by
    pd.testing.assert_frame_equal(old.headlines, new.headlines)
    pd.testing.assert_frame_equal(old.runs, new.runs)
    pd.testing.assert_frame_equal(old.summary, new.summary)
