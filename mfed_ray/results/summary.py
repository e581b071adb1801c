"""Per task and algorithm: mean and spread over seeds, and Delta_m against local training."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mfed_ray.errors import RunFolderError
from mfed_ray.tasks import TASKS

DELTA = "Delta_m [%]"


def summarise(results: pd.DataFrame, stage: str = "after_aggregation") -> pd.DataFrame:
    """One row per experiment and variant; per task the headline metric's mean over clients in the last round.

    A variant is an algorithm, with its config's digests where one experiment ran it with several configs. Columns:
    experiment, variant, seeds (how many), per task ``<task> <metric>``, and ``Delta_m [%]``, each of these as ``mean``
    and ``sd`` over seeds (NaN for one seed). Delta_m compares a run with the ``local`` run of the same experiment,
    setting (all of the config but the algorithm), seed and round: the mean over tasks of
    (-1)^l (M - M_local) / M_local, l = 1 where lower is better. It is NaN where a seed has no such run, or more than
    one. So is a task no client of which was evaluated in the last round, as with a cohort before aggregation. Round 0,
    the untrained models, counts for nothing here. Raises RunFolderError where no run was evaluated at the stage.
    """
    per_seed = _with_gain(_per_seed(results, stage))
    groups = ["experiment", "variant"]
    columns = {
        f"{task} {TASKS[task].headline.metric}": per_seed[per_seed["task"] == task].groupby(groups)["value"]
        for task in TASKS
        if (per_seed["task"] == task).any()
    }
    delta = per_seed.groupby([*groups, "seed"])["gain"].agg(_mean)
    columns[DELTA] = delta.reset_index().groupby(groups)["gain"]
    tables = {name: column.agg(mean=_mean, sd=_sd) for name, column in columns.items()}
    table = pd.concat(tables, axis=1)
    table.insert(0, ("seeds", ""), per_seed.groupby(groups)["seed"].nunique())
    return table.reset_index()


def _mean(values: "pd.Series[float]") -> float:
    """NaN where one value is: a mean over fewer tasks or seeds than the table says would be another quantity."""
    return float(values.mean(skipna=False))


def _sd(values: "pd.Series[float]") -> float:
    return float(values.std(skipna=False))


def _per_seed(results: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The headline metric by experiment, algorithm, variant, seed and task: the clients' mean in the last round."""
    headline = results["task"].map({name: task.headline.metric for name, task in TASKS.items()})
    trained = results["round"] > 0
    chosen = results[trained & (results["stage"] == stage) & (results["metric"] == headline)]
    if chosen.empty:
        found = ", ".join(sorted(set(results[trained]["stage"]))) or "none"
        raise RunFolderError(f"no run has values at stage {stage!r} after round 0; stages found there: {found}")
    last = chosen[chosen["round"] == chosen.groupby("run_id")["round"].transform("max")]
    parts = last["run_id"].str.rsplit("-", n=3)  # name-algorithm, setting, hyper-parameters, seed: see driver.identity
    last = last.assign(setting=parts.str[1], config=parts.str[1] + "-" + parts.str[2])
    several = last.groupby(["experiment", "algorithm"])["config"].transform("nunique") > 1
    last = last.assign(variant=last["algorithm"].where(~several, last["algorithm"] + " " + last["config"]))
    means = last.groupby(["run_id", "task"], as_index=False).agg({"value": "mean"})
    runs = last[["run_id", "experiment", "algorithm", "variant", "setting", "seed", "round"]].drop_duplicates("run_id")
    # every task that a run has, whether or not a client of it was evaluated in the last round: a cohort may lack some
    tasks = results[results["metric"] == headline][["run_id", "task"]].drop_duplicates()
    return runs.merge(tasks, on="run_id").merge(means, on=["run_id", "task"], how="left").drop(columns="run_id")


def _with_gain(per_seed: pd.DataFrame) -> pd.DataFrame:
    """Adds ``gain``: the signed relative difference in percent to the one local run of the seed."""
    keys = ["experiment", "setting", "seed", "task"]
    local = per_seed[per_seed["algorithm"] == "local"].drop_duplicates(keys, keep=False)
    joined = per_seed.merge(local[[*keys, "round", "value"]], on=keys, how="left", suffixes=("", "_local"))
    sign = joined["task"].map(lambda task: 1.0 if TASKS[task].headline.higher_is_better else -1.0)
    gain = 100.0 * sign * (joined["value"] - joined["value_local"]) / joined["value_local"]
    return joined.assign(gain=gain.where(joined["round"] == joined["round_local"]))


def render(table: pd.DataFrame, form: str) -> str:
    """``summarise``'s table as text in one of ``FORMATS``."""
    return FORMATS[form](table)


def _cells(table: pd.DataFrame, plus_minus: str) -> pd.DataFrame:
    """Mean and spread in one cell, rounded for reading."""
    plain = {"experiment": table["experiment"], "variant": table["variant"], "seeds": table["seeds", ""]}
    names = [name for name in dict.fromkeys(table.columns.get_level_values(0)) if name not in plain]
    digits = {name: 2 if name == DELTA or name.endswith("mean_error") else 4 for name in names}

    def cell(name: str, mean: float, sd: float) -> str:
        if np.isnan(mean):
            return "-"
        sign = "+" if name == DELTA else ""
        spread = "" if np.isnan(sd) else f" {plus_minus} {sd:.{digits[name]}f}"
        return f"{mean:{sign}.{digits[name]}f}{spread}"

    values = {
        name: [cell(name, mean, sd) for mean, sd in zip(table[name, "mean"], table[name, "sd"], strict=True)]
        for name in names
    }
    return pd.DataFrame({**plain, **values})


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis([" ".join(part for part in pair if part) for pair in table.columns], axis=1)


def _text(table: pd.DataFrame) -> str:
    cells = _cells(table, "±")
    rows = [list(cells.columns), *cells.astype(str).to_numpy().tolist()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(value.ljust(width) for value, width in row).rstrip() for row in padded)


def _markdown(table: pd.DataFrame) -> str:
    cells = _cells(table, "±")
    rows = [list(cells.columns), ["---"] * len(cells.columns), *cells.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _latex(table: pd.DataFrame) -> str:
    cells = _cells(table, r"$\pm$")
    escaped = cells.rename(columns=_escape).map(lambda cell: _escape(str(cell)))
    return escaped.style.hide(axis="index").to_latex(hrules=True)


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%")


FORMATS: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "table": _text,
    "csv": lambda table: _flat(table).to_csv(index=False).rstrip(),
    "markdown": _markdown,
    "latex": _latex,
    "json": lambda table: json.dumps(json.loads(_flat(table).to_json(orient="records")), indent=1),
}
"""How a summary is printed."""
