"""The long-form tables of a run, as Parquet files that are replaced whole."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mfed_ray.errors import RunFolderError

METRICS = {
    "run_id": "str",
    "experiment": "str",
    "algorithm": "str",
    "seed": "int64",
    "round": "int64",
    "stage": "str",
    "client": "str",
    "task": "str",
    "dataset": "str",
    "split": "str",
    "metric": "str",
    "value": "float64",
}
"""One row per measured value. ``stage``: training, before_aggregation, after_aggregation."""

ROUNDS = {
    "run_id": "str",
    "round": "int64",
    "fit_seconds": "float64",
    "aggregate_seconds": "float64",
    "evaluate_seconds": "float64",
    "bytes_up": "int64",
    "bytes_down": "int64",
    "peak_memory_bytes": "int64",
}
"""One row per round. Bytes are those that clients send and are sent; memory is that of the largest process."""

CORRELATIONS = {
    "run_id": "str",
    "round": "int64",
    "group": "str",
    "other": "str",
    "correlation": "float64",
    "fused": "bool",
}
"""One row per round and ordered pair of task groups: ``other``'s encoder was ``fused`` into ``group``'s, or not."""

Row = Mapping[str, Any]


class Table:
    """A growing table and its file. ``write`` replaces it at once: a reader sees whole rounds only."""

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self._path, self._columns = path, columns
        self._rows: list[Row] = []

    def restore(self, last_round: int) -> None:
        """Take up the file's rows up to and with ``last_round``; later ones belong to a round that did not finish."""
        frame = read_table(self._path)
        kept = frame[frame["round"] <= last_round]
        self._rows = [dict(zip(kept.columns, row, strict=True)) for row in kept.itertuples(index=False)]

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows that have every column."""
        self._rows.extend(rows)

    def write(self) -> None:
        """Replace the file."""
        frame = pd.DataFrame(self._rows, columns=list(self._columns)).astype(dict(self._columns))
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        frame.to_parquet(temporary, index=False)
        os.replace(temporary, self._path)


def read_table(path: Path) -> pd.DataFrame:
    """A table's file. Raises RunFolderError where it is missing or no Parquet file."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read as a Parquet table ({error})") from error
