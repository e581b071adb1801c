"""Runs and sweeps on disk, or anywhere else, to DataFrames."""

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mfed_ray.errors import ResultsWarning, RunFolderError, StorageError
from mfed_ray.results.find import Found, find
from mfed_ray.results.stored import Run, read_run
from mfed_ray.results.tables import METRICS
from mfed_ray.results.variants import differing, flatten, variant_names
from mfed_ray.storage import is_remote

Paths = str | Path | Sequence[str | Path]

_THREADS, _REMOTE_THREADS = 4, 32  # from afar, most of the time is waiting
_TOLD = 10
_NULLABLE = {name: kind for name, kind in METRICS.items() if kind == "boolean"}


@dataclass(frozen=True)
class Results:
    """The tables of several runs, in long form.

    Each frame has, beside the columns of ``mfed_ray.results.tables``, ``experiment``, ``algorithm``, ``seed``,
    ``rounds`` (planned), ``variant`` and one column for each dotted key of the configuration in which the runs differ
    (``algorithm.decoder_proximal_weight``; None or NaN for a run that does not have it).
    """

    metrics: pd.DataFrame
    rounds: pd.DataFrame
    correlations: pd.DataFrame
    fusing: pd.DataFrame
    failures: pd.DataFrame
    folders: Mapping[str, str]
    """Where the run of each ``run_id`` lies, as ``mfed_ray.storage.shown`` shows it."""
    problems: Sequence[str]
    """One sentence for each thing that could not be read or is not finished."""


def load(paths: Paths) -> Results:
    """Every run at or below the paths or URIs, whether runs, sweeps or folders of these.

    What cannot be read is left out and said in ``problems``. Raises RunFolderError where no run can be read.
    """
    found, problems = find([paths] if isinstance(paths, str | Path) else paths)
    runs: dict[str, Run] = {}
    with ThreadPoolExecutor(_REMOTE_THREADS if any(is_remote(one.place) for one in found) else _THREADS) as pool:
        for one in pool.map(_read, found):
            if isinstance(one, str):
                problems.append(one)
            elif one.run_id in runs:
                problems.append(f"{one.place}: left out, the same run {one.run_id} is in {runs[one.run_id].place} too")
            else:
                runs[one.run_id] = one
                problems += one.problems
    if not runs:
        raise RunFolderError(
            "; ".join(shortened(problems))
            or "load_results: no path found in the list; expected a run's folder, or several"
        )
    return _assembled(list(runs.values()), problems)


def load_results(paths: Paths) -> pd.DataFrame:
    """The metrics of every run at or below the paths or URIs, as one long-form DataFrame.

    Columns: run_id, experiment, algorithm, seed, round, stage, client, task, dataset, split, metric, value,
    headline, higher_is_better, setting (``mfed_ray.results.tables.METRICS``), and those of ``Results``. Warns
    (ResultsWarning) of what could not be read or is not finished; raises RunFolderError where there is no run.
    """
    results = load(paths)
    for problem in shortened(results.problems):
        warnings.warn(problem, ResultsWarning, stacklevel=2)
    return results.metrics


def shortened(problems: Sequence[str]) -> list[str]:
    """The first of many."""
    rest = len(problems) - _TOLD
    return [*problems[:_TOLD], *([f"and {rest} more"] if rest > 0 else [])]


def _read(found: Found) -> Run | str:
    try:
        return read_run(found)
    except (RunFolderError, StorageError) as error:
        return str(error)


def _assembled(runs: Sequence[Run], problems: Sequence[str]) -> Results:
    configs = [flatten(run.config) for run in runs]
    variants = variant_names(
        [(run.experiment, run.algorithm, config) for run, config in zip(runs, configs, strict=True)]
    )
    about = pd.DataFrame(
        {
            "experiment": [run.experiment for run in runs],
            "algorithm": [run.algorithm for run in runs],
            "seed": [run.seed for run in runs],
            "rounds": [run.rounds for run in runs],
            "variant": variants,
            **{key: [config.get(key) for config in configs] for key in differing(configs) if key != "rounds"},
        }
    )
    return Results(
        _frame([run.metrics for run in runs], about),
        _frame([run.costs for run in runs], about),
        _frame([run.correlations for run in runs], about),
        _frame([run.fusing for run in runs], about),
        _frame([run.failures for run in runs], about),
        {run.run_id: run.place for run in runs},
        problems,
    )


def _frame(tables: Sequence[pa.Table], about: pd.DataFrame) -> pd.DataFrame:
    """The rows of all, each with what its run is about."""
    owner = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas(split_blocks=True, self_destruct=True)
    rows = rows.astype({name: kind for name, kind in _NULLABLE.items() if name in rows})
    missing = about.drop(columns=[name for name in rows.columns if name in about])
    return pd.concat([rows, missing.take(owner).reset_index(drop=True)], axis=1)
