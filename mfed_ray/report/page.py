"""The page: a template filled with the summary and the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from mfed_ray.report.contract import ReportFigure
from mfed_ray.report.embed import inline_svg, jpeg


@dataclass(frozen=True)
class Chapter:
    """What the page says of one experiment. ``cells``: the summary as texts, the first column heads the rows."""

    experiment: str
    caption: str
    cells: pd.DataFrame
    figures: Sequence[ReportFigure]


@dataclass(frozen=True)
class Report:
    """All that the page says. ``failures``: texts, a row each; None where no client failed."""

    title: str
    lead: str
    chapters: Sequence[Chapter]
    failures: pd.DataFrame | None
    problems: Sequence[str]


def render_page(report: Report) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=PackageLoader("mfed_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(inline_svg=inline_svg, jpeg=jpeg)
    ends = list(accumulate((len(chapter.figures) for chapter in report.chapters), initial=1))
    template = environment.get_template("page.html.j2")
    return template.render(report=report, chapters=list(zip(ends, report.chapters, strict=False)))
