"""Per task and variant: mean and spread over seeds, Delta_m against local training, and what seeds say of it."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mfed_ray.errors import RunFolderError
from mfed_ray.evaluation import AFTER_AGGREGATION, Headline
from mfed_ray.results.built_in import in_order
from mfed_ray.results.comparison import better, with_gain
from mfed_ray.results.delta import DELTA
from mfed_ray.results.headline import chosen_stage, floors, headline_rows, headlines_of, over_clients
from mfed_ray.results.rows import BEST, adjust, place, row

__all__ = ["BEST", "DELTA", "summarise"]

_NEEDED = ("split", "headline", "higher_is_better", "setting")
"""Columns without which nobody knows which of the values count, and which runs may be compared."""


def summarise(results: pd.DataFrame, stage: str | None = None) -> pd.DataFrame:
    """One row per experiment and variant; per task the headline metric's mean over clients in the last round.

    ``stage``: after_aggregation or before_aggregation; by default the first, where a run was evaluated there.

    ``results`` is what ``load_results`` returns. Rows are sorted by experiment, then local, then variants, numbers by
    value. Columns:

    - experiment, variant, and seeds: how many finished runs there are; its ``note`` says how many others were left out,
      because they have not reached their last round (a scheduler stopped them, or they still run);
    - per task ``<task> <metric>``: ``mean`` and ``sd`` over seeds; the ``floor``, which the best constant prediction
      reaches, and ``at floor``: whether the mean is no better (None where no floor is known); the ``best stage`` where
      clients were evaluated before and after aggregation;
    - ``Delta_m [%]``, ``mean`` and ``sd`` over seeds, against the ``local`` run of the same experiment, setting (all of
      the config but the algorithm), seed and round: the mean over tasks of (-1)^l (M - M_local) / M_local, l = 1 where
      lower is better;
    - ``p``: two-sided paired t-test over seeds of Delta_m against local's, from three seeds on; ``holm``: the same
      adjusted (Holm 1979) for all the variants of the experiment that were tested;
    - ``best stage``: before_aggregation or after_aggregation, by Delta_m of the one against the other, or equal.

    Where a number is missing it is NaN, and a ``note`` beside it says why: a mean over fewer tasks, seeds or clients
    than the table says would be another quantity. (Before aggregation the clients are those that trained.) Round 0, the
    untrained models, counts for nothing here. Raises RunFolderError where no run was evaluated at the stage, where runs
    disagree in what a task is judged by, or where a column that says so is missing.
    """
    if lacking := [name for name in _NEEDED if name not in results]:
        raise RunFolderError(
            f"results: lack the column {', '.join(lacking)}; expected what load_results of this version returns"
        )
    values = headline_rows(results)
    headlines = headlines_of(values)
    stages = set(values.loc[values["round"] > 0, "stage"])
    stage = chosen_stage(stages) if stage is None else stage
    if stage not in stages:
        told = ", ".join(sorted(stages)) or "none"
        raise RunFolderError(f"no run has values at stage {stage!r} after round 0; stages found there: {told}")
    by_run = with_gain(_by_run(_runs(results), values, stage, headlines), headlines)
    by_run = by_run.join(floors(results), on=["run_id", "task"]).sort_values(["run_id", "task"])
    variants = defaultdict[tuple[str, str], list[Any]](list)
    for one in by_run.itertuples(index=False):
        variants[str(one.experiment), str(one.variant)].append(one)
    tasks = {task: headlines[task] for task in in_order(by_run["task"])}
    rows = sorted((row(variant, tasks) for variant in variants.values()), key=place)
    adjust(rows)
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))


def _runs(results: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its names, its setting, and whether it has reached its planned round."""
    runs = results.drop_duplicates("run_id").set_index("run_id")
    last = results.groupby("run_id")["round"].max().loc[runs.index]
    # what an id has before its seed, to tell apart runs that were loaded one by one: see experiment.identity
    config = runs.index.to_series().str.extract(r"-([^-]+-[^-]+)-[^-]+$", expand=False)
    variant = runs.get("variant", runs["algorithm"])
    planned = runs.get("rounds", last)
    several = config.groupby([runs["experiment"], variant]).transform("nunique") > 1
    return runs[["experiment", "algorithm", "seed", "setting"]].assign(
        variant=variant.where(~several, variant + " " + config),
        last=last,
        planned=planned,
        finished=last >= planned,
    )


def _by_run(runs: pd.DataFrame, values: pd.DataFrame, stage: str, headlines: Mapping[str, Headline]) -> pd.DataFrame:
    """The clients' mean at the stage, in the last round that has one, by run and task; NaN where nobody has one.

    A run has all its tasks, whether or not a client of it was evaluated in the last round: a cohort may lack some.
    """
    chosen = values[(values["round"] > 0) & (values["stage"] == stage)]
    final = chosen.groupby("run_id")["round"].max().rename("final")
    last = values.join(final, on="run_id")
    last = last[last["round"] == last["final"]]
    means = over_clients(last[last["stage"] == stage], ["run_id", "task"]).reset_index()
    tasks = values[["run_id", "task"]].drop_duplicates()
    table = tasks.merge(means, how="left").merge(better(last, headlines), how="left")
    # before aggregation only those have a value who trained
    complete = values[(values["stage"] == stage) & (stage == AFTER_AGGREGATION)]
    table = table.join(_lacking(complete), on=["run_id", "task"])
    table["lacking"] = table["lacking"].fillna("")
    table["value"] = table["value"].where(table["lacking"] == "")
    return table.join(final.rename("round"), on="run_id").join(runs, on="run_id")


def _lacking(values: pd.DataFrame) -> "pd.Series[str]":
    """By run and task, which part of the clients has no value in the run's last round: they failed.

    Empty where all have one, or none.
    """
    keys = ["run_id", "task"]
    last = values["round"] == values.groupby("run_id")["round"].transform("max")
    clients = values.groupby(keys)["client"].nunique()
    there = values[last].groupby(keys)["client"].nunique().reindex(clients.index, fill_value=0)
    told = (clients - there).astype(str) + " of " + clients.astype(str) + " clients failed"
    return told.where((there > 0) & (there < clients), "").rename("lacking")
