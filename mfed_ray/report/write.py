"""From results to a report on disk."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mfed_ray.errors import ConfigError, RunFolderError
from mfed_ray.report.clients import client_bars
from mfed_ray.report.correlations import correlation_matrices
from mfed_ray.report.costs import costs
from mfed_ray.report.curves import learning_curves
from mfed_ray.report.failures import failure_cells
from mfed_ray.report.fusing import fusing_by_block
from mfed_ray.report.gallery import galleries, montage
from mfed_ray.report.heat_map import heat_maps
from mfed_ray.report.page import Chapter, Report, render_page
from mfed_ray.report.study import Study, studies
from mfed_ray.report.style import styled
from mfed_ray.report.words import FLOOR_IS, listed, plural, spaced
from mfed_ray.results.loading import Results, shortened
from mfed_ray.results.rendering import cells

FORMATS = ("html", "png", "svg", "pdf")

PICTURED = 3
"""Runs of a report that pictures are drawn of, at most: each needs models."""


def write_report(results: Results, out: Path, form: str = "html", trusted: Collection[str] = ()) -> list[Path]:
    """Write the page ``out``, or each panel of its figures as a file of the format into the folder ``out``.

    ``results`` is what ``mfed_ray.load`` returns. ``trusted``: as of ``mfed_ray.predict.predict``, for pictures. The
    files written, which replace those of their names. Raises ConfigError for another format or a place that cannot be
    written, RunFolderError where no run was evaluated.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format: {form!r} is not one of {', '.join(FORMATS)}")
    found = studies(results)
    if not found:
        raise RunFolderError("no run was evaluated after round 0 yet, so there is no figure to draw")
    with styled():
        chapters = [
            _chapter(study, results, _pictured(len(found), index), trusted) for index, study in enumerate(found)
        ]
        try:
            return [_write_page(chapters, results, out)] if form == "html" else _write_panels(chapters, out, form)
        except OSError as error:
            raise ConfigError(f"--out: {out}: cannot be written ({error}); choose another place") from error


def _pictured(experiments: int, index: int) -> int:
    """How many runs of an experiment pictures are drawn of."""
    return PICTURED // experiments if experiments <= PICTURED else int(index < PICTURED)


def _chapter(study: Study, results: Results, pictured: int, trusted: Collection[str]) -> Chapter:
    figures = [
        learning_curves(study),
        heat_maps(study),
        correlation_matrices(study),
        *fusing_by_block(study),
        costs(study),
        client_bars(study),
        *galleries(study, results.folders, pictured, trusted),
    ]
    caption = (
        f"Headline metrics {spaced(study.stage)} at the last round, mean over "
        f"clients ± standard deviation over seeds. Delta_m is the mean over tasks of the relative gain on local "
        "training of the same setting and seed; p is of a paired t-test over seeds, adjusted by Holm's method."
        f"{f' {FLOOR_IS}' if study.floors else ''}"
    )
    table = cells(study.summary).drop(columns="experiment")
    return Chapter(study.name, caption, table, figures)


def _write_page(chapters: Sequence[Chapter], results: Results, out: Path) -> Path:
    names = [chapter.experiment for chapter in chapters]
    runs = results.metrics.drop_duplicates("run_id")
    variants = runs[["experiment", "variant"]].drop_duplicates()
    lead = (
        f"{plural(len(runs), 'run')} of {plural(len(variants), 'variant')}, {plural(runs['seed'].nunique(), 'seed')}."
    )
    failures = failure_cells(results.failures)
    report = Report(f"Results of {listed(names)}", lead, chapters, failures, shortened(results.problems))
    return _replaced(out, render_page(report).encode())


def _replaced(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path


def _write_panels(chapters: Sequence[Chapter], folder: Path, form: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    written: list[Path] = []
    for experiment, figure in ((chapter.experiment, figure) for chapter in chapters for figure in chapter.figures):
        for panel in (*figure.panels, *([montage(figure.rows)] if figure.rows else [])):
            path = _free(folder, _slug(experiment, figure.name, panel.name), form, written)
            panel.plot.savefig(path, format=form, metadata=metadata)
            written.append(path)
    return written


def _slug(*parts: str) -> str:
    return "-".join(re.sub(r"[^\w.+=-]+", "_", part) for part in parts if part)


def _free(folder: Path, stem: str, form: str, written: Iterable[Path]) -> Path:
    taken = {path.name for path in written}
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.{form}" for number in range(1, len(taken) + 2))
    return folder / next(name for name in names if name not in taken)
