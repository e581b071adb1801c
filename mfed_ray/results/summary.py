"""Per task and algorithm: mean and spread over seeds, and Delta_m against local training."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mfed_ray.errors import RunFolderError
from mfed_ray.tasks import TASKS

DELTA = "Delta_m [%]"


def summarise(results: pd.DataFrame, stage: str = "after_aggregation") -> pd.DataFrame:
    """One row per experiment and algorithm; per task the headline metric's mean over clients in the last round.

    Columns: experiment, algorithm, seeds (how many), then per task ``<task> <metric>`` and last ``Delta_m [%]``, each
    as two columns ``mean`` and ``sd`` over seeds (NaN for one seed). Delta_m compares each run with the ``local`` run of
    the same experiment and seed at the same round: the mean over tasks of (-1)^l (M - M_local) / M_local, l = 1 where
    lower is better; NaN where there is no such run. Raises RunFolderError where no run was evaluated at the stage.
    """
    per_seed = _per_seed(results, stage)
    local = per_seed[per_seed["algorithm"] == "local"].drop(columns="algorithm")
    keys = ["experiment", "seed", "task"]
    joined = per_seed.merge(local, on=keys, how="left", suffixes=("", "_local"))
    sign = joined["task"].map(lambda task: 1.0 if TASKS[task].headline.higher_is_better else -1.0)
    joined["gain"] = 100.0 * sign * (joined["value"] - joined["value_local"]) / joined["value_local"]
    joined.loc[joined["round"] != joined["round_local"], "gain"] = np.nan
    groups = ["experiment", "algorithm"]
    columns = {
        f"{task} {TASKS[task].headline.metric}": joined[joined["task"] == task].groupby(groups)["value"]
        for task in TASKS
        if (joined["task"] == task).any()
    }
    # a task without a baseline makes the whole Delta_m NaN: a mean over fewer tasks would be another quantity
    delta = joined.groupby([*groups, "seed"])["gain"].agg(lambda gains: gains.mean(skipna=False))
    columns[DELTA] = delta.reset_index().groupby(groups)["gain"]
    tables = {name: column.agg(["mean", "std"]).rename(columns={"std": "sd"}) for name, column in columns.items()}
    table = pd.concat(tables, axis=1)
    table.insert(0, ("seeds", ""), joined.groupby(groups)["seed"].nunique())
    return table.reset_index()


def _per_seed(results: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The headline metric by experiment, algorithm, seed and task: the mean over clients in the last round."""
    headline = results["task"].map({name: task.headline.metric for name, task in TASKS.items()})
    chosen = results[(results["stage"] == stage) & (results["metric"] == headline)]
    if chosen.empty:
        raise RunFolderError(f"no run has values at stage {stage!r}; stages found: {sorted(set(results['stage']))}")
    run = ["experiment", "algorithm", "seed"]
    last = chosen[chosen["round"] == chosen.groupby(run)["round"].transform("max")]
    return last.groupby([*run, "task", "round"], as_index=False)["value"].mean()


def render(table: pd.DataFrame, form: str) -> str:
    """``summarise``'s table as text in one of ``FORMATS``."""
    return FORMATS[form](table)


def _cells(table: pd.DataFrame, plus_minus: str) -> pd.DataFrame:
    """Mean and spread in one cell, rounded for reading."""
    plain = {"experiment": table["experiment"], "algorithm": table["algorithm"], "seeds": table["seeds", ""]}
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
