"""Runs against local training of the same setting and seed, and whether seeds agree on the difference."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mfed_ray.evaluation import AFTER_AGGREGATION, BEFORE_AGGREGATION, Headline
from mfed_ray.results.delta import gain

LOCAL = "local"
FEWEST = 3
"""Seeds that a paired test needs: with two, one degree of freedom tells next to nothing."""

_KEYS = ["experiment", "setting", "seed"]


def with_gain(values: pd.DataFrame, headlines: Mapping[str, Headline]) -> pd.DataFrame:
    """Adds ``gain``, the signed relative difference in percent to the one local run, and ``no_gain``: why it is NaN.

    ``values`` has a row for each run and task: experiment, setting, seed, algorithm, finished, round, task, value,
    lacking.
    """
    local = values[values["algorithm"] == LOCAL]
    runs = local.drop_duplicates("run_id").groupby(_KEYS)["finished"].agg(locals="sum", begun="size")
    one = local[local["finished"]].drop_duplicates([*_KEYS, "task"], keep=False)
    one = one[[*_KEYS, "task", "round", "value", "lacking"]]
    joined = values.join(runs, on=_KEYS).merge(one, on=[*_KEYS, "task"], how="left", suffixes=("", "_local"))
    count = joined["locals"].fillna(0).astype(int)
    reasons = {
        "clients failed": joined["lacking"] != "",
        "not evaluated": joined["value"].isna(),
        "local run not finished": (count == 0) & (joined["begun"] > 0),
        "no local run": count == 0,
        "two local runs": count == 2,
        "several local runs": count > 2,
        "clients of local failed": joined["lacking_local"].fillna("") != "",
        "local not evaluated": joined["value_local"].isna(),
        "local ended at another round": joined["round"] != joined["round_local"],
        "local is 0": joined["value_local"] == 0,
    }
    why = np.select([mask.to_numpy(bool) for mask in reasons.values()], list(reasons), "")
    base = joined["value_local"].where(why == "")
    gains = gain(joined["value"], base, _higher_is_better(joined["task"], headlines))
    return joined[values.columns].assign(gain=gains, no_gain=why)


def better(values: pd.DataFrame, headlines: Mapping[str, Headline]) -> pd.DataFrame:
    """By run and task, how much better the clients are after aggregation than before it, in percent of before.

    ``values`` has the columns run_id, task, client, stage, value, of one round. Only clients evaluated at both stages
    count; NaN where they have 0 before.
    """
    wide = values.pivot_table(index=["run_id", "task", "client"], columns="stage", values="value").dropna()
    wide = wide.reindex(columns=[BEFORE_AGGREGATION, AFTER_AGGREGATION]).dropna()
    means = wide.groupby(level=["run_id", "task"]).mean().reset_index()
    higher = _higher_is_better(means["task"], headlines)
    return means[["run_id", "task"]].assign(better=gain(means[AFTER_AGGREGATION], means[BEFORE_AGGREGATION], higher))


def _higher_is_better(tasks: Iterable[str], headlines: Mapping[str, Headline]) -> NDArray[np.bool_]:
    return np.array([headlines[task].higher_is_better for task in tasks], dtype=bool)


def paired_p(gains: ArrayLike) -> float:
    """Two-sided p of the paired t-test over seeds of Delta_m against local's, which is 0; NaN where all are equal."""
    values = np.asarray(gains)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return float("nan")
    from scipy import stats  # it takes half a second to load, and few summaries have a test

    return float(stats.ttest_rel(values, np.zeros(len(values))).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment (1979) of several tests' p-values: the chance of a single false claim stays below each."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(p) for p in adjusted]
