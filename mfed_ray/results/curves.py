"""A run's headline metrics round by round."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from mfed_ray.evaluation import AFTER_AGGREGATION, Headline
from mfed_ray.results.find import METRICS_FILE, folder_at
from mfed_ray.results.headline import Scores, headline_rows, headlines_of, scores
from mfed_ray.results.parts import read_whole
from mfed_ray.results.tables import METRICS


@dataclass(frozen=True)
class Curve:
    """Each task's score by evaluated round, and what the tasks are judged by."""

    rounds: Mapping[int, Scores] = field(default_factory=dict)
    headlines: Mapping[str, Headline] = field(default_factory=dict)


def read_curve(place: str) -> Curve:
    """The curve of the run whose folder is at a path or URI; empty where no round was written yet.

    Raises RunFolderError where its table cannot be read.
    """
    found = folder_at(place)
    if METRICS_FILE not in found.files:
        return Curve()
    stored = read_whole(found, METRICS_FILE, METRICS)
    return curve_of(stored.rows, (stored.config or {}).get("evaluation", {}).get("stages", ()))


def curve_of(metrics: pa.Table, stages: Collection[str] = ()) -> Curve:
    """The curve that a run's metrics table holds.

    ``stages``: where clients are to be evaluated. A round whose evaluation after aggregation is still to come is left
    out.
    """
    rows = headline_rows(metrics.to_pandas())
    if AFTER_AGGREGATION in stages:
        rows = rows[rows["round"].isin(rows.loc[rows["stage"] == AFTER_AGGREGATION, "round"])]
    by_round = defaultdict[int, list[tuple[str, str, float]]](list)
    for number, *value in rows[["round", "stage", "task", "value"]].itertuples(index=False, name=None):
        by_round[int(number)].append((str(value[0]), str(value[1]), float(value[2])))
    return Curve({number: scores(values) for number, values in by_round.items()}, headlines_of(rows))
