"""What fusing does, block by block: agreement within and between task groups, and what it leaves of a group's step."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mfed_ray.report.contract import Panel, ReportFigure
from mfed_ray.report.correlations import letter
from mfed_ray.report.study import Study
from mfed_ray.report.style import DIVERGING, LIGHT, SEQUENTIAL, WIDTH, text_colour, wrapped
from mfed_ray.report.words import explained, listed, number, plural, seeds_of, spaced, symbolic
from mfed_ray.results.order import natural

_ALGORITHMS = 3
_WRITTEN = 10

Grid = NDArray[np.float64]
"""[rows, blocks]; NaN where nothing is known."""


def fusing_by_block(study: Study) -> list[ReportFigure]:
    """One panel for the best variant of each algorithm that measures it, three at most; no figure where none does."""
    measured = set(study.fusing["variant"])
    shown = [best for best in map(study.best, study.algorithms) if best in measured][:_ALGORITHMS]
    if not shown:
        return []
    caption = (
        f"Mean over rounds and {seeds_of(study.runs[study.runs['variant'].isin(shown)])}, by block of the encoder from "
        "its input on. Above, how far the steps of a round agree: a row of one letter is the cosine of two clients of "
        "that group, a row of two letters that of two groups' mean steps, which have less noise than a client's. "
        "Below, the length of the step to the encoder with which a group goes on, as a share of that of its own step: "
        "below 1 fusing shortens it, above 1 it leads over to where the others are. Grey cells are not known: a group "
        "of one client has no two to compare."
        f"{explained(shown)}"
    )
    panels = [_panel(variant, study.fusing[study.fusing["variant"] == variant]) for variant in shown]
    return [ReportFigure("fusing", "Agreement and steps by block", caption, panels)]


def _panel(variant: str, rows: pd.DataFrame) -> Panel:
    groups = list(dict.fromkeys(str(group) for group in rows["group"]))
    blocks = sorted({str(block) for block in rows["block"]}, key=natural)
    letters = [letter(index) for index in range(len(groups))]
    itself = [(group, group) for group in groups]
    pairs = [*itself, *combinations(groups, 2)]
    names = [*letters, *map(" ".join, combinations(letters, 2))]
    means = rows.assign(ratio=rows["fused_length"] / rows["own_length"].where(rows["own_length"] > 0))
    by_pair = means.groupby(["group", "other", "block"])[["agreement", "ratio"]].mean()
    agreement, ratio = (
        by_pair[column].unstack().reindex(index=pd.MultiIndex.from_tuples(of), columns=blocks).to_numpy(float)
        for column, of in (("agreement", pairs), ("ratio", itself))
    )
    title = wrapped(symbolic(variant))
    heights = [0.14 * len(pairs) + 0.1, 0.14 * len(groups) + 0.1]
    height = 1.4 + 0.15 * title.count("\n") + sum(heights) + 0.14 * len(groups)
    figure = Figure((WIDTH, height), layout="constrained")
    figure.suptitle(title, fontsize=8, fontweight="bold", x=0.01, ha="left")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    limit = _largest(np.abs(agreement))
    _draw(figure, above, agreement, names, DIVERGING, Normalize(-limit, limit))
    _draw(figure, below, ratio, letters, SEQUENTIAL, Normalize(0, max(1, _largest(ratio))))
    above.axhline(len(groups) - 0.5, color="black", linewidth=0.6)
    above.set_title("agreement of steps", fontsize=7, fontweight="normal")
    below.set_title("length of the fused step / own step", fontsize=7, fontweight="normal")
    below.set_xticks(range(len(blocks)), [_short(block) for block in blocks], rotation=40, ha="right")
    key = "\n".join(f"{one}  {spaced(group)}" for one, group in zip(letters, groups, strict=True))
    figure.supxlabel(key, fontsize=7, x=0.01, ha="left")
    return Panel(variant, _alt(variant, groups, blocks, agreement, ratio), figure)


def _draw(figure: Figure, axes: Axes, grid: Grid, names: Sequence[str], colours: Colormap, norm: Normalize) -> None:
    axes.grid(visible=False)
    axes.set_facecolor(LIGHT)
    edges = [np.arange(size + 1) - 0.5 for size in grid.shape]
    mesh = axes.pcolormesh(
        edges[1], edges[0], np.ma.masked_invalid(grid), cmap=colours, norm=norm, edgecolors="white", linewidth=0.4
    )
    if grid.shape[1] <= _WRITTEN:
        for row, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
            value = grid[row, column]
            colour = text_colour(colours, float(norm(value)))
            axes.text(column, row, f"{value:z.2f}", ha="center", va="center", color=colour, fontsize=5.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=6)
    bar = figure.colorbar(mesh, ax=axes, aspect=10, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=6)


def _largest(grid: Grid) -> float:
    """For a colour map's range: never 0."""
    return max(float(np.nanmax(grid)), 1e-9) if np.isfinite(grid).any() else 1.0


def _short(block: str) -> str:
    """A block's name without that of the encoder, which is all that a ResNet's stem has."""
    return block.partition(".")[2] or "stem"


def _alt(variant: str, groups: Sequence[str], blocks: Sequence[str], agreement: Grid, ratio: Grid) -> str:
    parts = {
        "two clients of a group agree by": agreement[: len(groups)],
        "two groups agree by": agreement[len(groups) :],
        "the fused step has": ratio,
    }
    told = [f"{words} {_range(grid, blocks)}" for words, grid in parts.items() if np.isfinite(grid).any()]
    ends = " of the own step's length" if np.isfinite(ratio).any() else ""
    return (
        f"Steps of {plural(len(groups), 'task group')} in {plural(len(blocks), 'block')} of the encoder under "
        f"{variant}: {listed(told)}{ends}."
    )


def _range(grid: Grid, blocks: Sequence[str]) -> str:
    low, high = (
        f"{number(float(grid.flat[place]), 3)} ({_short(blocks[place % len(blocks)])})"
        for place in (int(np.nanargmin(grid)), int(np.nanargmax(grid)))
    )
    return f"{low} to {high}"
