"""Runs on disk to one DataFrame."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mfed_ray.errors import RunFolderError
from mfed_ray.results.tables import read_table


def load_results(paths: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """The metric tables of every run at or below the paths, as one long-form DataFrame.

    Columns: run_id, experiment, algorithm, seed, round, stage, client, task, dataset, split, metric, value
    (``mfed_ray.results.tables.METRICS``). Raises RunFolderError where there is no run.
    """
    roots = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    files = [file for root in roots for file in _tables(root)]
    if not files:
        raise RunFolderError("load_results: no path found in the list; expected a run's folder, or several")
    return pd.concat([read_table(file) for file in files], ignore_index=True)


def _tables(root: Path) -> list[Path]:
    if not root.exists():
        raise RunFolderError(f"{root}: no such folder; expected a run's folder, or one with runs below it")
    files = sorted(root.rglob("metrics.parquet"))
    if not files:
        raise RunFolderError(f"{root}: no run in it or below it (looked for metrics.parquet)")
    return files
