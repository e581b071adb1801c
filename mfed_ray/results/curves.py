"""A run's headline metrics round by round."""

from collections.abc import Mapping

import pandas as pd
import pyarrow.parquet as pq

from mfed_ray.storage import below, locate
from mfed_ray.tasks import TASKS

Headlines = Mapping[str, float]


def read_curve(place: str) -> dict[int, Headlines]:
    """``headline_curve`` of the run whose folder is at a path or URI; empty where no round was written yet."""
    system, path = locate(below(place, "metrics.parquet"))
    try:
        return headline_curve(pq.read_table(path, filesystem=system).to_pandas())
    except FileNotFoundError:
        return {}


def headline_curve(metrics: pd.DataFrame) -> dict[int, Headlines]:
    """By evaluated round, each task's headline metric: the mean over its clients, after aggregation, else before."""
    headline = metrics["task"].map({name: task.headline.metric for name, task in TASKS.items()})
    found = metrics[(metrics["metric"] == headline) & (metrics["split"] == "val")]
    curve: dict[int, Headlines] = {}
    for number, one in found.groupby("round"):
        after = one[one["stage"] == "after_aggregation"]
        means = (one if after.empty else after).groupby("task", sort=False, observed=True)["value"].mean()
        curve[int(str(number))] = {str(task): float(value) for task, value in means.items()}
    return curve


def delta_m(values: Headlines, local: Headlines) -> float:
    """Delta_m in percent: the mean over tasks of (-1)^l (M - M_local) / M_local, l = 1 where lower is better.

    NaN where ``local`` lacks a task, or is zero there.
    """
    gains = [
        (1 if TASKS[task].headline.higher_is_better else -1) * (value - local[task]) / local[task]
        if local.get(task)
        else float("nan")
        for task, value in values.items()
    ]
    return 100 * sum(gains) / len(gains)
