"""The headline rule: what a task's number is.

It is the mean over the task's clients of its headline metric, on held-out images: after aggregation, else before.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean

import pandas as pd

from mfed_ray.errors import RunFolderError
from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, FLOOR, HELD_OUT, Headline, Stage

Scores = Mapping[str, float]
"""A number by task."""


def headline_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of a metrics table that the rule looks at, of every round and stage at which clients are evaluated."""
    return metrics[metrics["headline"] & (metrics["split"] == HELD_OUT) & (metrics["stage"] != FLOOR)]


def floors(metrics: pd.DataFrame) -> "pd.Series[float]":
    """What the best constant predictions reach, by run and task: the mean over clients, as the rule has it."""
    rows = metrics[metrics["headline"] & (metrics["stage"] == FLOOR)]
    return over_clients(rows, ["run_id", "task"]).rename("floor")


def chosen_stage(stages: Collection[str]) -> Stage:
    """The stage that counts, given those at which clients were evaluated."""
    return AFTER_AGGREGATION if AFTER_AGGREGATION in stages else BEFORE_AGGREGATION


def over_clients(rows: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[float]":
    """The mean over clients of ``headline_rows`` of one stage, by the keys, of which task is one."""
    return rows.groupby(list(keys))["value"].mean()


def scores(values: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """The rule for one round, given stage, task and value of every client that was evaluated in it.

    As in ``over_clients``, a client whose value is NaN does not count.
    """
    of_stage = defaultdict[str, dict[str, list[float]]](dict)
    for stage, task, value in values:
        of_stage[stage].setdefault(task, []).append(value)
    return {task: _mean(numbers) for task, numbers in of_stage[chosen_stage(of_stage)].items()}


def _mean(values: Sequence[float]) -> float:
    numbers = [value for value in values if value == value]
    return fmean(numbers) if numbers else float("nan")


def headlines_of(rows: pd.DataFrame) -> dict[str, Headline]:
    """What each task of ``headline_rows`` is judged by. Raises RunFolderError where runs disagree."""
    known: dict[str, Headline] = {}
    columns = ["task", "metric", "higher_is_better"]
    for task, metric, higher in rows[columns].drop_duplicates().itertuples(index=False, name=None):
        own = Headline(str(metric), bool(higher))
        if (other := known.setdefault(str(task), own)) != own:
            raise RunFolderError(
                f"task {task}: judged by {_told(other)} in one run and by {_told(own)} in another; load runs that agree"
            )
    return known


def _told(headline: Headline) -> str:
    return f"{headline.metric} ({'higher' if headline.higher_is_better else 'lower'} is better)"
