import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mfed_ray.report import write_report
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


def changed(run: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a finished run with another config."""
    shutil.copytree(run, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_code_that_a_folder_names_is_not_imported(results: Results, real_runs: Path, tmp_path: Path) -> None:
    place = changed(
        real_runs / "0", tmp_path / "run", lambda config: config["algorithm"].update(name="http.server:Planted")
    )
    (study,) = studies(results)
    (figure,) = galleries(study, dict.fromkeys(results.folders, str(place)), 1)
    start = f"No pictures of {place}: algorithm.name: 'http.server:Planted' is code that a folder names, so it was not"
    assert figure.missing.startswith(start)


def test_a_damaged_run_costs_its_own_pictures_alone(real_runs: Path, tmp_path: Path) -> None:
    """Of one run the checkpoint has another shape, of one the images are damaged: the page says so and has the rest."""
    runs, data = tmp_path / "runs", tmp_path / "data"
    scenes = Path(yaml.safe_load((real_runs / "0" / "config.yaml").read_text())["data"]["scenes"]["root"])
    shutil.copytree(scenes, data)
    for path in (data / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    shape = changed(real_runs / "0", runs / "shape", lambda config: config["model"].update(decoder_width=16))
    image = changed(real_runs / "1", runs / "image", lambda config: config["data"]["scenes"].update(root=str(data)))
    (page,) = write_report(load(runs), tmp_path / "report.html")
    text = page.read_text()
    assert f"No pictures of {shape}: the checkpoint of round 1 does not fit the config: decoders." in text
    assert "has the shape [8, 64, 1, 1], expected [16, 64, 1, 1]; put the run" in text
    assert f"No pictures of {image}: {data}/JPEGImages/generated_" in text
    assert "cannot be decoded as an image" in text
    assert text.count("<svg") > 3


def test_a_record_of_starts_that_is_none_is_told_too(results: Results, real_runs: Path, tmp_path: Path) -> None:
    shutil.copytree(real_runs / "0", tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text('["no start"]')
    (study,) = studies(results)
    (figure,) = galleries(study, dict.fromkeys(results.folders, str(tmp_path / "run")), 1)
    assert figure.missing.startswith(f"No pictures of {tmp_path}/run: {tmp_path}/run/environment.json")
