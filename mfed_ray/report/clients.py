"""The headline metric client by client, at the last round."""

import numpy as np
import pandas as pd

from mfed_ray.report.contract import Panel, ReportFigure
from mfed_ray.report.study import Study
from mfed_ray.report.style import add_legend, cut, new_plot, wrapped
from mfed_ray.report.words import explained, label_of, metric_of, number, plural, seeds_of, some, spaced, symbolic

_MOST_NAMED = 24


def client_bars(study: Study) -> ReportFigure:
    """One panel per task: a bar for each client and each variant that figures show."""
    caption = (
        "Headline metric of every client at the last round, on the images that it holds out; whiskers are one standard "
        f"deviation over {seeds_of(study.runs)} to either side, arrows point to where a metric is better."
        f"{explained(study.looks)}"
    )
    if left_out := len(study.variants) - len(study.looks):
        caption += f" The {left_out} variants that the curves show in grey are left out."
    return ReportFigure("clients", "Clients at the last round", caption, [_panel(study, task) for task in study.tasks])


def _panel(study: Study, task: str) -> Panel:
    final = study.final[(study.final["task"] == task) & study.final["variant"].isin(study.looks)]
    stats = final.groupby(["variant", "client"])["value"].agg(mean="mean", sd="std")
    means, sds = (stats[column].unstack() for column in ("mean", "sd"))
    clients = sorted(means.columns, key=_by_number)
    variants = [variant for variant in study.looks if variant in means.index]
    names = [symbolic(variant) for variant in variants]
    figure, axes = new_plot(2.0, spaced(task), names)
    width = 0.8 / len(variants)
    for index, variant in enumerate(variants):
        look = study.looks[variant]
        axes.bar(
            np.arange(len(clients)) + (index - (len(variants) - 1) / 2) * width,
            means.loc[variant, clients].to_numpy(float),
            width,
            yerr=sds.loc[variant, clients].fillna(0).to_numpy(float) if sds.loc[variant].notna().any() else None,
            color=look.colour,
            hatch=look.hatch,
            edgecolor="white",
            linewidth=0,
            error_kw={"elinewidth": 0.6, "ecolor": "black"},
            label=wrapped(names[index]),
        )
    step = max(1, -(-len(clients) // _MOST_NAMED))
    axes.set_xticks(range(0, len(clients), step), _names(clients)[::step])
    if max(len(name) for name in _names(clients)) > 3:
        axes.tick_params(axis="x", labelrotation=40)
    axes.set_xlabel("client")
    axes.set_ylabel(label_of(study.judged_by[task]))
    axes.grid(visible=False, axis="x")
    add_legend(figure, names)
    return Panel(task, _alt(study, task, means.loc[variants, clients]), figure)


def _by_number(client: str) -> tuple[str, int]:
    group, _, number_in_it = client.rpartition("-")
    return group, int(number_in_it) if number_in_it.isdigit() else 0


def _names(clients: list[str]) -> list[str]:
    """Numbers where all are of one task group."""
    split = [client.rpartition("-") for client in clients]
    return (
        [number_in_it for _, _, number_in_it in split]
        if len({group for group, _, _ in split}) == 1
        else [cut(client, 24) for client in clients]
    )


def _alt(study: Study, task: str, means: pd.DataFrame) -> str:
    told = [f"{variant} {number(row.min())} to {number(row.max())}" for variant, row in means.iterrows()]
    metric = metric_of(study.judged_by[task])
    return f"{spaced(task)}, {metric}, {plural(len(means.columns), 'client')}: {some(told, 8)}."
