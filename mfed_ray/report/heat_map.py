"""Delta_m over the two keys in which an algorithm's runs differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mfed_ray.report.contract import Panel, ReportFigure
from mfed_ray.report.study import Study
from mfed_ray.report.style import DIVERGING, LIGHT, WIDTH, cut, new_plot, text_colour
from mfed_ray.report.words import SYMBOLS, number, plural, seeds_of, signed, some
from mfed_ray.results.order import natural

PREFERRED = ("algorithm.decoder_proximal_weight", "algorithm.correlation_threshold")
"""lambda and tau: the axes where these differ; else the keys with the most values."""

_WRITTEN = 8
_TICKS = 8


def heat_maps(study: Study) -> ReportFigure:
    """One panel for each algorithm that ran with several configurations."""
    name, title = "delta_m", "Delta_m over hyper-parameters"
    varied = {algorithm: _varied(study, algorithm) for algorithm in sorted(study.algorithms)}
    if not any(varied.values()):
        return ReportFigure(name, title, missing="No algorithm ran with more than one configuration, so there is no "
                            "key to compare Delta_m over.")  # fmt: skip
    panels, others = [], set[str]()
    for algorithm, keys in ((algorithm, keys) for algorithm, keys in varied.items() if keys):
        cells = _cells(study, algorithm, keys[:2])
        if len(cells):
            panels.append(_panel(algorithm, keys[:2], cells))
            others |= {*keys[2:]}
    if not panels:
        return ReportFigure(name, title, missing="Delta_m compares with local training, and no run here has one local "
                            "run of the same setting and seed.")  # fmt: skip
    caption = (
        f"Delta_m in percent against local training, mean over tasks and {seeds_of(study.runs)}; blue is better than "
        "local training, red worse; hatched cells have no run with a Delta_m."
    )
    if others:
        caption += f" Each cell is the mean over the values of {some(sorted(others))}."
    return ReportFigure(name, title, caption, panels)


def _varied(study: Study, algorithm: str) -> list[str]:
    """The keys in which the algorithm's runs differ, those for the axes first."""
    runs = study.runs[study.runs["algorithm"] == algorithm]
    counts = {key: len({_text(value) for value in runs[key]}) for key in study.keys}
    found = [key for key, count in counts.items() if count > 1]
    return sorted(found, key=lambda key: ([*PREFERRED, key].index(key), -counts[key], key))


def _cells(study: Study, algorithm: str, keys: Sequence[str]) -> pd.DataFrame:
    """One row per pair of values (as text): the mean Delta_m of the variants that have them."""
    runs = study.runs[study.runs["algorithm"] == algorithm].drop_duplicates("variant")
    axes = {f"axis{index}": [_text(value) for value in runs[key]] for index, key in enumerate(keys)}
    deltas = [study.deltas.get(variant, np.nan) for variant in runs["variant"]]
    table = pd.DataFrame({"axis0": "", "axis1": "", **axes, "delta": deltas}, index=range(len(runs))).dropna()
    return table.groupby(["axis0", "axis1"])["delta"].mean().reset_index()


def _panel(algorithm: str, keys: Sequence[str], cells: pd.DataFrame) -> Panel:
    columns, rows = (sorted(set(cells[axis]), key=_place) for axis in ("axis0", "axis1"))
    grid = np.full((len(rows), len(columns)), np.nan)
    for column, row, delta in cells.itertuples(index=False):
        grid[rows.index(row), columns.index(column)] = delta
    sparse = np.isfinite(grid).sum() * 3 < grid.size
    height = 2.4 if sparse else np.clip(0.9 + 0.32 * len(rows), 1.3, 3.2)
    figure, axes = new_plot(float(height), algorithm)
    _draw(figure, axes, grid, sparse=sparse)
    _ticks(axes, columns, rows)
    axes.set_xlabel(_label(keys[0]))
    axes.set_ylabel(_label(keys[1]) if len(keys) > 1 else "")
    return Panel(algorithm, _alt(algorithm, keys, cells), figure)


def _draw(figure: Figure, axes: Axes, grid: NDArray[np.float64], *, sparse: bool) -> None:
    """Cells, or points where few pairs of values have a run, as in a random search."""
    limit = max(float(np.nanmax(np.abs(grid))), 1e-9)
    norm = Normalize(-limit, limit)
    axes.grid(visible=sparse)
    if sparse:
        rows, columns = np.nonzero(np.isfinite(grid))
        drawn: Any = axes.scatter(
            columns, rows, c=grid[rows, columns], cmap=DIVERGING, norm=norm, edgecolors="black", linewidths=0.4, s=24
        )
    else:
        axes.set_facecolor(LIGHT)
        axes.patch.set_hatch("////")
        axes.patch.set_edgecolor("#bbbbbb")
        edges = [np.arange(size + 1) - 0.5 for size in grid.shape]
        drawn = axes.pcolormesh(
            edges[1], edges[0], np.ma.masked_invalid(grid), cmap=DIVERGING, norm=norm, edgecolors="white", linewidth=0.5
        )
        _write(axes, grid, norm)
    bar = figure.colorbar(drawn, ax=axes, aspect=16, pad=0.02)
    bar.set_label("Delta_m [%]")
    bar.outline.set_linewidth(0.4)


def _write(axes: Axes, grid: NDArray[np.float64], norm: Normalize) -> None:
    if max(grid.shape) > _WRITTEN:
        return
    size = 7 if grid.shape[1] <= 5 else 5.5
    for row, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
        value = grid[row, column]
        colour = text_colour(DIVERGING, float(norm(value)))
        axes.text(column, row, f"{value:+.1f}", ha="center", va="center", color=colour, fontsize=size)


def _ticks(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        step = max(1, -(-len(names) // _TICKS))
        axis.set_ticks(range(0, len(names), step), [cut(name, 14) for name in names[::step]])
    if sum(len(name) for name in columns[:_TICKS]) * 0.08 > WIDTH * 0.6:
        axes.tick_params(axis="x", labelrotation=40)


def _alt(algorithm: str, keys: Sequence[str], cells: pd.DataFrame) -> str:
    best, worst = (cells.iloc[int(index)] for index in (cells["delta"].argmax(), cells["delta"].argmin()))

    def place(cell: "pd.Series[Any]") -> str:
        return ", ".join(f"{_short(key)} {cell[f'axis{index}']}" for index, key in enumerate(keys))

    return (
        f"Delta_m of {algorithm} over {' and '.join(_short(key) for key in keys)}, {plural(len(cells), 'cell')}: best "
        f"{signed(best['delta'])} % at {place(best)}, worst {signed(worst['delta'])} % at {place(worst)}."
    )


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "none" if np.isnan(value) else number(float(value), 6)
    return "none" if value is None else str(value)


def _place(value: str) -> Any:
    """Numbers by value, then words."""
    return natural(f"={value}")


def _short(key: str) -> str:
    return key.removeprefix("algorithm.")


def _label(key: str) -> str:
    short = _short(key)
    return f"{SYMBOLS[short]} ({short})" if short in SYMBOLS else short
