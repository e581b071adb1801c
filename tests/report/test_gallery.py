import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfed_ray.report.contract import ReportFigure
from mfed_ray.report.gallery import galleries, montage
from mfed_ray.report.study import Study, studies
from mfed_ray.results.loading import Results, load

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def results(real_runs: Path) -> Results:
    return load(real_runs)


@pytest.fixture(scope="module")
def figures(results: Results) -> list[ReportFigure]:
    (study,) = studies(results)
    return galleries(study, results.folders, 3)


def test_the_best_variant_of_each_algorithm(results: Results, figures: list[ReportFigure]) -> None:
    (study,) = studies(results)
    best = [study.best(algorithm) for algorithm in study.algorithms]
    assert [figure.title for figure in figures] == [f"Predictions of {variant}" for variant in best]
    headings = [shown.heading for shown in figures[0].rows[0].pictures]
    assert headings == ["image", "ground truth", "before", "after round 1"]
    label = figures[0].rows[1].label
    assert label.startswith("saliency, saliency-0, image generated_")


def test_a_montage_has_a_plot_for_each_picture(figures: list[ReportFigure]) -> None:
    plots = montage(figures[0].rows).plot.axes
    assert len(plots) == 12
    np.testing.assert_array_equal(np.asarray(plots[5].images[0].get_array()), figures[0].rows[1].pictures[1].pixels)


def test_why_there_are_none(results: Results, real_runs: Path, tmp_path: Path) -> None:
    (study,) = studies(results)
    (none,) = galleries(study, results.folders, 0)
    assert none.missing == "Pictures are drawn of a few runs of a report; ask for one of this experiment alone."
    remote = dict.fromkeys(results.folders, "s3://bucket/run")
    (figure,) = galleries(study, remote, 1)
    assert figure.missing == "Pictures are drawn of runs on this machine; this one is at s3://bucket/run."
    shutil.copytree(real_runs / "0", tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    (figure,) = galleries(study, dict.fromkeys(results.folders, str(tmp_path / "bare")), 1)
    assert figure.missing == (
        f"No pictures of {tmp_path}/bare: {tmp_path}/bare: has no finished round yet, its clients have no model to "
        "predict with."
    )


def test_a_client_without_scores_is_said_to_have_none(results: Results) -> None:
    (study,) = studies(results)
    none = replace(study, headlines=study.headlines[study.headlines["task"] != "saliency"])
    (figure,) = galleries(none, results.folders, 1)
    assert figure.rows[1].pictures[3].alt == "Prediction after round 1; the client was not evaluated."
