"""Metrics tables of versions 1 and 2: they say neither what tasks are judged by nor the run's setting."""

from collections.abc import Mapping

import pyarrow as pa
from pyarrow import compute

from mfed_ray.evaluation import HELD_OUT
from mfed_ray.results.built_in import HEADLINES

_SETTING = r"-(?P<setting>[^-]+)-[^-]+-[^-]+$"
"""In those versions a run's id ends in SETTING-HYPERPARAMETERS-seedSEED."""


def described(rows: pa.Table) -> Mapping[str, pa.Array]:
    """The columns ``headline``, ``higher_is_better`` and ``setting`` of rows that lack them.

    A task that is none of the package's own has no headline. A run's id of another form tells no setting: null.
    """
    places = compute.index_in(rows["task"], value_set=pa.array(list(HEADLINES)))
    metrics = pa.array([headline.metric for headline in HEADLINES.values()]).take(places)
    directions = pa.array([headline.higher_is_better for headline in HEADLINES.values()]).take(places)
    headline = compute.fill_null(compute.equal(rows["metric"], metrics), fill_value=False)
    return {
        "headline": headline,
        "higher_is_better": compute.if_else(headline, directions, pa.scalar(None, pa.bool_())),
        "setting": compute.struct_field(compute.extract_regex(rows["run_id"], pattern=_SETTING), "setting"),
    }


def unknown_tasks(rows: pa.Table) -> list[str]:
    """Tasks that clients were evaluated in and that are none of the package's own, by name."""
    evaluated = rows.filter(compute.equal(rows["split"], HELD_OUT))["task"]
    return sorted(set(evaluated.unique().to_pylist()) - HEADLINES.keys())
