"""What a round costs: seconds by phase, bytes by direction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfed_ray.report.contract import Panel, ReportFigure
from mfed_ray.report.study import Study
from mfed_ray.report.style import LOOKS, add_legend, new_plot, wrapped
from mfed_ray.report.words import explained, number, seeds_of, some, symbolic

_SECONDS = {"fit_seconds": "fit", "aggregate_seconds": "aggregate", "evaluate_seconds": "evaluate"}
_BYTES = {"bytes_up": "up", "bytes_down": "down"}
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


_BAR = 0.15
"""Inches."""


def costs(study: Study) -> ReportFigure:
    """Mean seconds and bytes of a round of the variants that figures show."""
    name, title = "costs", "Seconds and bytes by phase"
    rounds = study.rounds[(study.rounds["round"] > 0) & study.rounds["variant"].isin(study.looks)]
    if rounds.empty:
        return ReportFigure(name, title, missing="The runs' rounds.parquet could not be read, or has no round yet.")
    means = rounds.groupby("variant")[[*_SECONDS, *_BYTES]].mean()
    means = means.loc[[variant for variant in study.looks if variant in means.index]]
    unit, symbol = _unit(means[[*_BYTES]].sum(axis=1).max())
    caption = (
        f"Mean of a round over all rounds but 0 and {seeds_of(study.runs)}; bytes are of all clients together, down "
        "before they fit and up after it."
        f"{explained(means.index)}"
    )
    if left_out := len(study.variants) - len(means):
        caption += f" The {left_out} variants that the curves show in grey are left out."
    panels = [
        _panel("seconds", "seconds a round", means, _SECONDS),
        _panel("bytes", f"{symbol} a round", means / unit, _BYTES),
    ]
    return ReportFigure(name, title, caption, panels)


def _unit(most: float) -> tuple[float, str]:
    return next(((size, symbol) for size, symbol in _UNITS if most >= size), (1.0, "bytes"))


def _panel(name: str, label: str, means: pd.DataFrame, parts: Mapping[str, str]) -> Panel:
    names = [wrapped(symbolic(str(variant)), 58) for variant in means.index]
    text = 0.12 * max(name.count("\n") + 1 for name in names)
    pitch = _BAR + text + 0.1
    figure, axes = new_plot(0.55 + pitch * len(means), label, [*parts.values()])
    places, start = np.arange(len(means)), np.zeros(len(means))
    for (column, part), look in zip(parts.items(), LOOKS, strict=False):
        values = means[column].to_numpy(float)
        style: Any = {"color": look.colour, "hatch": look.hatch, "edgecolor": "white", "linewidth": 0}
        axes.barh(places, values, _BAR / pitch, start, label=part, **style)
        start = start + values
    beside: Any = {"textcoords": "offset points", "fontsize": 6.5, "in_layout": False}
    for place, told, total in zip(places, names, start, strict=True):
        axes.annotate(told, (0, place - _BAR / pitch / 2), (1, 1.5), va="bottom", **beside)
        axes.annotate(number(total, 3), (total, place), (2, 0), va="center", **beside)
    axes.set_xlim(0, 1.14 * max(start.max(), 1e-9))
    axes.set_ylim(len(means) - 1 + (_BAR / 2 + 0.05) / pitch, -(_BAR / 2 + text + 0.05) / pitch)
    axes.set_yticks([])
    add_legend(figure, [*parts.values()])
    return Panel(name, _alt(label, means, parts), figure)


def _alt(label: str, means: pd.DataFrame, parts: Mapping[str, str]) -> str:
    def told(variant: str, values: Sequence[float]) -> str:
        each = ", ".join(f"{part} {number(value, 3)}" for part, value in zip(parts.values(), values, strict=True))
        return f"{variant} {number(sum(values), 3)} ({each})"

    rows = means[[*parts]].to_numpy(float).tolist()
    return f"{label}: {some([told(str(v), row) for v, row in zip(means.index, rows, strict=True)], 8)}."
