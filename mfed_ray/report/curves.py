"""Learning curves: each task's headline metric over the rounds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mfed_ray.report.contract import Panel, ReportFigure
from mfed_ray.report.study import Study
from mfed_ray.report.style import GREY, Look, add_legend, new_plot, wrapped
from mfed_ray.report.words import (
    FLOOR_IS,
    explained,
    label_of,
    metric_of,
    number,
    plural,
    seeds_of,
    some,
    spaced,
    symbolic,
)

_MARKERS = 8


def learning_curves(study: Study) -> ReportFigure:
    """One panel per task: mean over clients and seeds, spread over seeds; the best variants in colour."""
    others = len(study.variants) - len(study.looks)
    caption = (
        f"Headline metric {spaced(study.stage)} by round: mean over clients and {seeds_of(study.runs)}; the bands are "
        "one standard deviation over seeds to either side, the arrows point to where a metric is better."
        f"{explained(study.looks)}"
    )
    if study.floors:
        caption += f" {FLOOR_IS}"
    if others:
        caption += (
            f" Of {len(study.variants)} variants, the best {len(study.looks)} by Delta_m (with local training) are in "
            f"colour, the other {others} in thin grey."
        )
    if study.stopped:
        caption += f" Before their last round: {some([f'{v} {why}' for v, why in sorted(study.stopped.items())])}."
    panels = [_panel(study, task) for task in study.tasks]
    return ReportFigure("curves", "Learning curves", caption, panels)


def _panel(study: Study, task: str) -> Panel:
    curves = study.curves[study.curves["task"] == task]
    labels = {variant: _label(study, variant) for variant in study.looks if variant in set(curves["variant"])}
    rest = curves[~curves["variant"].isin(labels)]
    grey = [f"{plural(rest['variant'].nunique(), 'other')}"] if len(rest) else []
    floor = ["floor"] if task in study.floors else []
    names = [*grey, *labels.values(), *floor]
    figure, axes = new_plot(2.3, spaced(task), names)
    if grey:
        _grey(axes, rest, grey[0])
    for variant in labels:
        _line(axes, curves[curves["variant"] == variant], study.looks[variant], wrapped(labels[variant]))
    if floor:
        axes.axhline(study.floors[task], color=GREY, linewidth=0.8, dashes=(4, 2), label="floor", zorder=1)
    axes.set_xlabel("round")
    axes.set_ylabel(label_of(study.judged_by[task]))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, names)
    return Panel(task, _alt(study, task), figure)


def _label(study: Study, variant: str) -> str:
    name = symbolic(variant)
    return f"{name} ({study.stopped[variant]})" if variant in study.stopped else name


def _line(axes: Axes, curve: pd.DataFrame, look: Look, label: str) -> None:
    rounds, mean, sd = (curve[name].to_numpy(float) for name in ("round", "mean", "sd"))
    every = max(1, -(-len(rounds) // _MARKERS))
    axes.plot(rounds, mean, color=look.colour, marker=look.marker, markevery=every, dashes=look.dashes, label=label)
    if np.isfinite(sd).any():
        axes.fill_between(rounds, mean - sd, mean + sd, color=look.colour, alpha=0.1, linewidth=0)


def _grey(axes: Axes, curves: pd.DataFrame, label: str) -> None:
    """All of them as one broken line: one path in the file instead of hundreds."""
    gap = [np.nan]
    parts = [part for _, part in curves.groupby("variant")]
    rounds = np.concatenate([np.append(part["round"].to_numpy(float), gap) for part in parts])
    means = np.concatenate([np.append(part["mean"].to_numpy(float), gap) for part in parts])
    axes.plot(rounds, means, color=GREY, linewidth=0.5, alpha=0.6, label=label, zorder=1)


def _alt(study: Study, task: str) -> str:
    ends = study.ends[study.ends["task"] == task].set_index("variant")["mean"]
    order = ends.sort_values(ascending=not study.judged_by[task].higher_is_better, kind="stable")
    rounds = study.curves.loc[study.curves["task"] == task, "round"]
    told = [f"{variant} {number(value)}" for variant, value in order.items()]
    floor = f" Floor {number(study.floors[task])}." if task in study.floors else ""
    return (
        f"{spaced(task)}, {metric_of(study.judged_by[task])}, over rounds {rounds.min()} to {rounds.max()} for "
        f"{plural(len(order), 'variant')}. At the last round, best first: {some(told)}; "
        f"range {number(order.min())} to {number(order.max())}; {seeds_of(study.runs)}.{floor}"
    )
