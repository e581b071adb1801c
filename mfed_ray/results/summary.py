"""Per task and variant: mean and spread over seeds, Delta_m against local training, and what seeds say of it."""

from collections import defaultdict
from typing import Any

import pandas as pd

from mfed_ray.errors import RunFolderError
from mfed_ray.results.comparison import better, with_gain
from mfed_ray.results.rows import BEST, DELTA, adjust, place, row
from mfed_ray.tasks import TASKS

__all__ = ["BEST", "DELTA", "summarise"]


def summarise(results: pd.DataFrame, stage: str | None = None) -> pd.DataFrame:
    """One row per experiment and variant; per task the headline metric's mean over clients in the last round.

    ``stage``: after_aggregation or before_aggregation; by default the first, where a run was evaluated there.

    ``results`` is what ``load_results`` returns. Rows are sorted by experiment, then local, then variants, numbers by
    value. Columns:

    - experiment, variant, and seeds: how many finished runs there are; its ``note`` says how many others were left out,
      because they have not reached their last round (a scheduler stopped them, or they still run);
    - per task ``<task> <metric>``: ``mean`` and ``sd`` over seeds, and the ``best stage`` where clients were evaluated
      before and after aggregation;
    - ``Delta_m [%]``, ``mean`` and ``sd`` over seeds, against the ``local`` run of the same experiment, setting (all of
      the config but the algorithm), seed and round: the mean over tasks of (-1)^l (M - M_local) / M_local, l = 1 where
      lower is better;
    - ``p``: two-sided paired t-test over seeds of Delta_m against local's, from three seeds on; ``holm``: the same
      adjusted (Holm 1979) for all the variants of the experiment that were tested;
    - ``best stage``: before_aggregation or after_aggregation, by Delta_m of the one against the other, or equal.

    Where a number is missing it is NaN, and a ``note`` beside it says why: a mean over fewer tasks or seeds than the
    table says would be another quantity. Round 0, the untrained models, counts for nothing here. Raises RunFolderError
    where no run was evaluated at the stage.
    """
    headline = results["task"].map({name: task.headline.metric for name, task in TASKS.items()})
    values = results[results["metric"] == headline]
    if stage is None:
        after = ((values["stage"] == "after_aggregation") & (values["round"] > 0)).any()
        stage = "after_aggregation" if after else "before_aggregation"
    if not ((values["stage"] == stage) & (values["round"] > 0)).any():
        found = ", ".join(sorted(set(results.loc[results["round"] > 0, "stage"]))) or "none"
        raise RunFolderError(f"no run has values at stage {stage!r} after round 0; stages found there: {found}")
    by_run = with_gain(_by_run(_runs(results), values, stage)).sort_values(["run_id", "task"])
    variants = defaultdict[tuple[str, str], list[Any]](list)
    for one in by_run.itertuples(index=False):
        variants[str(one.experiment), str(one.variant)].append(one)
    tasks = [task for task in TASKS if (by_run["task"] == task).any()]
    rows = sorted((row(variant, tasks) for variant in variants.values()), key=place)
    adjust(rows)
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))


def _runs(results: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its names, its setting, and whether it has reached its planned round."""
    runs = results.drop_duplicates("run_id").set_index("run_id")
    last = results.groupby("run_id")["round"].max().loc[runs.index]
    # the end of an id is SETTING-HYPERPARAMETERS-seedSEED: see driver.identity
    parts = runs.index.to_series().str.extract(r"-(?P<config>(?P<setting>[^-]+)-[^-]+)-[^-]+$")
    variant = runs.get("variant", runs["algorithm"])
    planned = runs.get("rounds", last)
    several = parts["config"].groupby([runs["experiment"], variant]).transform("nunique") > 1  # if loaded apart
    return runs[["experiment", "algorithm", "seed"]].assign(
        variant=variant.where(~several, variant + " " + parts["config"]),
        setting=parts["setting"],
        last=last,
        planned=planned,
        finished=last >= planned,
    )


def _by_run(runs: pd.DataFrame, values: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The clients' mean at the stage, in the last round that has one, by run and task; NaN where nobody has one.

    A run has all its tasks, whether or not a client of it was evaluated in the last round: a cohort may lack some.
    """
    chosen = values[(values["round"] > 0) & (values["stage"] == stage)]
    final = chosen.groupby("run_id")["round"].max().rename("final")
    last = values.join(final, on="run_id")
    last = last[last["round"] == last["final"]]
    means = last[last["stage"] == stage].groupby(["run_id", "task"], as_index=False)["value"].mean()
    tasks = values[["run_id", "task"]].drop_duplicates()
    table = tasks.merge(means, how="left").merge(better(last), how="left").join(final.rename("round"), on="run_id")
    return table.join(runs, on="run_id")
