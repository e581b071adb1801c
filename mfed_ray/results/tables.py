"""The long-form tables of a run: their columns, and their Parquet files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import parquet

from mfed_ray.durable import replace
from mfed_ray.errors import RunFolderError
from mfed_ray.json_text import from_json
from mfed_ray.locks import not_followed
from mfed_ray.results.older import described

VERSION = 3
"""Of the tables.

Version 2 did not say which metrics are headlines, nor the run's setting. Version 1 did not keep the configuration
either, nor a version.
"""

_METADATA = b"mfed_ray"

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
    "headline": "bool",
    "higher_is_better": "boolean",
    "setting": "str",
}
"""One row per measured value.

``stage`` is one of ``mfed_ray.evaluation``'s. ``headline``: whether the metric is the one that its task is judged by;
if so, ``higher_is_better`` is its direction, else null. ``setting``: a digest of all of the configuration but
algorithm, runtime and seed; runs that share it may be compared. It is null in old runs whose id does not tell it.
"""

DESCRIBED = frozenset({"headline", "higher_is_better", "setting"})
"""Columns of ``METRICS`` since version 3."""

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
"""One row per round and ordered pair of task groups: ``other``'s encoder was ``fused`` into ``group``'s, or not.

Where M-Fed judges, ``correlation`` is the share of its loss that ``group`` would save on ``other``'s encoder, and
``fused`` whether it takes that.
"""

FUSING = {
    "run_id": "str",
    "round": "int64",
    "group": "str",
    "other": "str",
    "block": "str",
    "agreement": "float64",
    "own_length": "float64",
    "fused_length": "float64",
}
"""One row per round, ordered pair of task groups (a group and itself too) and block of the encoder.

``agreement``: of two groups the cosine of their mean steps of the round, of a group and itself the mean cosine of two
clients' steps. Only a group and itself have lengths: of the group's own step, and of the fused one
(``mfed_ray.algorithms.fusing``). Null: not known.
"""

FAILURES = {
    "run_id": "str",
    "time": "str",
    "round": "int64",
    "phase": "str",
    "client": "str",
    "error": "str",
    "outcome": "str",
}
"""One row per failure of a client in a phase of a round: ``fit`` or ``evaluate``.

``time`` is UTC in ISO 8601. ``outcome``: ``retried``, ``dropped`` (left out of this phase of the round) or ``stopped``
(the run ended). A resumed run leaves out whoever was dropped.
"""

Row = Mapping[str, Any]

_TYPES: Mapping[str, pa.DataType] = {
    "str": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "boolean": pa.bool_(),
}
"""By pandas' names; ``boolean`` may be null."""


def write_table(path: Path, rows: pa.Table, config: Mapping[str, Any]) -> int:
    """Write a table's file, or replace it at once, and return its bytes. Raises OSError.

    It says in its metadata by which version and from which resolved config it was made. Until it is whole it has the
    name ``.TABLE.parquet.tmp``, which is one for the file and all its parts.
    """
    made = json.dumps({"version": VERSION, "config": config})
    temporary = path.with_name(f".{path.name.partition('.')[0]}.parquet.tmp")
    # without the schema of Arrow, which would double a small file
    with (
        open(temporary, "wb", opener=not_followed) as file,
        parquet.ParquetWriter(file, rows.schema, write_page_checksum=True, store_schema=False) as writer,
    ):
        writer.write_table(rows)
        writer.add_key_value_metadata({_METADATA: made})
    size = temporary.stat().st_size
    replace(temporary, path)
    return size


@dataclass(frozen=True)
class Stored:
    """A table's file as it was read; ``config`` is None in files of version 1."""

    rows: pa.Table
    version: int
    config: Mapping[str, Any] | None


def open_table(source: Path | IO[bytes], place: str, columns: Mapping[str, str]) -> Stored:
    """Read a table's file from a path or an open file, its columns in the order named.

    A metrics table of an older version gets the columns that it lacks: see ``mfed_ray.results.older``. Raises
    RunFolderError, which names ``place``, where the file is damaged, of a newer version, or lacks a column.
    """
    try:
        with parquet.ParquetFile(source, page_checksum_verification=True) as file:
            made = _made(file.metadata.metadata or {}, place)
            version = made.get("version", 1)
            lacking = [name for name in columns if name not in file.schema_arrow.names]
            if damaged := [name for name in lacking if version == VERSION or name not in DESCRIBED]:
                raise RunFolderError(f"{place}: lacks the column {', '.join(damaged)}")
            kept = {name: kind for name, kind in columns.items() if name not in lacking}
            rows = file.read(columns=list(kept), use_threads=False)  # whoever reads many files has threads
        rows.validate(full=True)
        rows = rows.replace_schema_metadata()
        if not rows.schema.equals(table_schema(kept)):
            rows = rows.select(list(kept)).cast(table_schema(kept))
        return Stored(_completed(rows, columns) if lacking else rows, version, made.get("config"))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(f"{place}: cannot be read as a Parquet table ({' '.join(str(error).split())})") from error


def _completed(rows: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The rows of an older version with all the columns."""
    added = described(rows)
    return pa.table([rows[name] if name in rows.column_names else added[name] for name in columns], list(columns))


def table_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Arrow's types of the columns."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


def _made(metadata: Mapping[bytes, bytes], place: str) -> Mapping[str, Any]:
    made = from_json(metadata.get(_METADATA, "{}"))
    if not isinstance(made, dict) or not isinstance(version := made.get("version", 1), int):
        raise RunFolderError(f"{place}: its metadata must be an object with the number of a version")
    if version > VERSION:
        raise RunFolderError(
            f"{place}: written by a newer version of mfed_ray (tables of version {version}; known here: 1 to {VERSION})"
        )
    return made
