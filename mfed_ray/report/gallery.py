"""Pictures: image, ground truth, prediction before and after federation, of the best run of a few algorithms."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mfed_ray.errors import MfedError
from mfed_ray.pictures import Pictures, draw_pictures
from mfed_ray.report.contract import Panel, PictureRow, ReportFigure, Shown
from mfed_ray.report.study import Study
from mfed_ray.report.words import metric_of, number, spaced
from mfed_ray.storage import is_remote

PAGE_WIDTH = 7.0
"""Inches of both columns of a paper."""


def galleries(study: Study, folders: Mapping[str, str], most: int, trusted: Collection[str] = ()) -> list[ReportFigure]:
    """One figure for the best variant of each of the ``most`` best algorithms: of its run of the lowest seed.

    ``trusted``: as of ``mfed_ray.predict.predict``. A run that cannot be drawn has a sentence that says why.
    """
    if not most:
        why = "Pictures are drawn of a few runs of a report; ask for one of this experiment alone."
        return [ReportFigure("pictures", "Predictions", missing=why)]
    found = []
    for variant in [study.best(algorithm) for algorithm in study.algorithms][:most]:
        runs = study.runs[study.runs["variant"] == variant].sort_values("seed", kind="stable")
        found.append(_gallery(study, variant, runs.iloc[0], folders, trusted))
    return found


def _gallery(
    study: Study, variant: str, run: "pd.Series[Any]", folders: Mapping[str, str], trusted: Collection[str]
) -> ReportFigure:
    name, title = f"pictures-{variant}", f"Predictions of {variant}"
    place = folders[str(run["run_id"])]
    if is_remote(place):
        return ReportFigure(name, title, missing=f"Pictures are drawn of runs on this machine; this one is at {place}.")
    try:
        pictures = draw_pictures(Path(place), trusted)
    except Exception as error:  # whatever a run's files hold, the report has other runs to show
        reason = str(error) if isinstance(error, MfedError) else f"{type(error).__name__}: {error}"
        return ReportFigure(name, title, missing=f"No pictures of {place}: {reason}.")
    caption = (
        f"Seed {run['seed']}: for each task one image that the client holds out, the first with objects in it, with "
        f"the ground truth and the client's predictions before federation (the initial model) and after round "
        f"{pictures[0].round}."
    )
    return ReportFigure(name, title, caption, rows=[_row(study, str(run["run_id"]), one) for one in pictures])


def _row(study: Study, run_id: str, one: Pictures) -> PictureRow:
    task = spaced(one.task)
    before, after = (_score(study, run_id, one, first=first) for first in (True, False))
    shown = (
        Shown("image", f"Image {one.image_id}, which {one.client} holds out.", one.image),
        Shown("ground truth", f"Ground truth of {task} drawn over it.", one.truth),
        Shown("before", f"Prediction of the initial model; {before}.", one.before),
        Shown(f"after round {one.round}", f"Prediction after round {one.round}; {after}.", one.after),
    )
    return PictureRow(f"{task}, {one.client}, image {one.image_id}", shown)


def _score(study: Study, run_id: str, one: Pictures, *, first: bool) -> str:
    own = study.headlines
    own = own[(own["run_id"] == run_id) & (own["task"] == one.task) & (own["client"] == one.client)]
    values = own.sort_values("round")["value"]
    if values.empty:
        return "the client was not evaluated"
    value = number(float(values.iloc[0 if first else -1]))
    return f"over all images that the client holds out {metric_of(study.judged_by[one.task])} {value}"


def montage(rows: Sequence[PictureRow]) -> Panel:
    """The rows as one plot."""
    widest = max(len(row.pictures) for row in rows)
    figure = Figure((PAGE_WIDTH, 2.0 * len(rows)), layout="constrained")
    plots = figure.subplots(len(rows), widest, squeeze=False)
    for row, line in zip(rows, plots, strict=True):
        for picture, axes in zip(row.pictures, line, strict=True):
            axes.imshow(picture.pixels)
            axes.set_axis_off()
            axes.set_anchor("N")
            axes.set_title(picture.heading, fontweight="normal", fontsize=7)
        line[0].set_title(row.label.replace(", ", "\n"), fontsize=7)  # small pictures have no room for it in one line
    return Panel("", " ".join(picture.alt for row in rows for picture in row.pictures), figure)
