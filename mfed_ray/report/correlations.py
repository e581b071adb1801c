"""Correlation matrices of the task groups over the rounds, and which groups were fused."""

from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mfed_ray.report.contract import Panel, ReportFigure
from mfed_ray.report.study import Study
from mfed_ray.report.style import DIVERGING, LIGHT, WIDTH, wrapped
from mfed_ray.report.words import explained, number, plural, seeds_of, spaced, symbolic

_ALGORITHMS = 3
_ROUNDS = 6
_COLUMNS = 3

Matrices = dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By round: mean correlation, and the share of seeds in which the pair was fused; rows get, columns give."""


def correlation_matrices(study: Study) -> ReportFigure:
    """One panel for the best variant of each algorithm that measures correlations, three at most."""
    name, title = "correlations", "Correlation of task groups"
    measured = set(study.correlations["variant"]) if len(study.correlations) else set[str]()
    best = [study.best(algorithm) for algorithm in study.algorithms]
    shown = [variant for variant in best if variant in measured][:_ALGORITHMS]
    if not shown:
        why = f"No algorithm here measures correlations of task groups ({', '.join(sorted(study.algorithms))})."
        return ReportFigure(name, title, missing=why)
    panels = [_panel(study, variant) for variant in shown]
    caption = (
        f"Mean over {seeds_of(study.runs[study.runs['variant'].isin(shown)])}. A filled dot marks a pair that was "
        "fused in all seeds, an open one in some: the encoder of the column's group went into that of the row's. The "
        "colours' range is symmetric about 0; the diagonal is left out. Where M-Fed judges (correlation_threshold: "
        "judged), the colour is the share of its loss that the row's group would save on the encoder of the column's, "
        "and a dot marks whose encoder it takes."
        f"{explained(shown)}"
    )
    return ReportFigure(name, title, caption, panels)


def _panel(study: Study, variant: str) -> Panel:
    rows = study.correlations[study.correlations["variant"] == variant]
    groups = list(dict.fromkeys(str(group) for column in ("group", "other") for group in rows[column]))
    matrices = _matrices(rows, groups)
    limit = _limit(matrices)
    letters = [letter(index) for index in range(len(groups))]
    grid, title = -(-len(matrices) // _COLUMNS), wrapped(symbolic(variant))
    height = 0.3 + 0.15 * title.count("\n") + 1.05 * grid + 0.14 * len(groups)
    figure = Figure((WIDTH, height), layout="constrained")
    figure.suptitle(title, fontsize=8, fontweight="bold", x=0.01, ha="left")
    plots = figure.subplots(grid, _COLUMNS, squeeze=False)
    for axes, (round_number, (mean, fused)) in zip(plots.flat, matrices.items(), strict=False):
        _draw(axes, mean, fused, limit)
        axes.set_title(f"round {round_number}", fontsize=7, fontweight="normal")
        axes.set_xticks(range(len(groups)), letters)
        axes.set_yticks(range(len(groups)), letters)
    for axes in plots.flat[len(matrices) :]:
        axes.set_axis_off()
    bar = figure.colorbar(plots[0, 0].collections[0], ax=list(plots.flat), aspect=20, pad=0.02)
    bar.outline.set_linewidth(0.4)
    key = "\n".join(f"{letter}  {spaced(group)}" for letter, group in zip(letters, groups, strict=True))
    figure.supxlabel(key, fontsize=7, x=0.01, ha="left")
    return Panel(variant, _alt(variant, groups, matrices), figure)


def _matrices(rows: pd.DataFrame, groups: Sequence[str]) -> Matrices:
    numbers = sorted(set(rows["round"]))
    steps = np.linspace(0, len(numbers) - 1, min(_ROUNDS, len(numbers))).round().astype(int)
    matrices: Matrices = {}
    for one in (numbers[step] for step in steps):
        means = rows[rows["round"] == one].groupby(["group", "other"])[["correlation", "fused"]].mean()
        mean, fused = (
            means[column].unstack().reindex(index=groups, columns=groups).to_numpy(float, copy=True)
            for column in ("correlation", "fused")
        )
        np.fill_diagonal(mean, np.nan)
        np.fill_diagonal(fused, 0)
        matrices[int(one)] = mean, fused
    return matrices


def _limit(matrices: Matrices) -> float:
    values = np.abs(np.stack([mean for mean, _ in matrices.values()]))
    return float(np.nanmax(values)) if np.isfinite(values).any() else 1.0


def _draw(axes: Axes, mean: NDArray[np.float64], fused: NDArray[np.float64], limit: float) -> None:
    axes.grid(visible=False)
    axes.set_facecolor(LIGHT)
    edges = np.arange(len(mean) + 1) - 0.5
    norm = Normalize(-max(limit, 1e-9), max(limit, 1e-9))
    axes.pcolormesh(
        edges, edges, np.ma.masked_invalid(mean), cmap=DIVERGING, norm=norm, edgecolors="white", linewidth=0.4
    )
    for always in (True, False):
        row, column = np.nonzero(fused == 1 if always else (fused > 0) & (fused < 1))
        face = "black" if always else "none"
        axes.scatter(column, row, s=36 / len(mean), facecolors=face, edgecolors="black", linewidths=0.5)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.tick_params(length=0, labelsize=6)


def letter(index: int) -> str:
    """What stands for a task group in a plot: a letter, or a number where there are not enough."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)


def _alt(variant: str, groups: Sequence[str], matrices: Matrices) -> str:
    (last, (mean, fused)) = list(matrices.items())[-1]
    size = len(groups)
    told = f"Correlations of {plural(size, 'task group')} under {variant} at rounds {', '.join(map(str, matrices))}."
    if not np.isfinite(mean).any():
        return f"{told} There is no pair of groups."
    low, high = (_pair(int(pick(mean)), mean, groups) for pick in (np.nanargmin, np.nanargmax))
    return (
        f"{told} At round {last} from {low} to {high}; "
        f"{int((fused > 0).sum())} of {plural(size * (size - 1), 'ordered pair')} fused."
    )


def _pair(index: int, mean: NDArray[np.float64], groups: Sequence[str]) -> str:
    row, column = divmod(index, len(groups))
    return f"{number(mean[row, column])} ({spaced(groups[row])}, {spaced(groups[column])})"
