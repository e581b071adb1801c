from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from mfed_ray.errors import RunFolderError
from mfed_ray.results.frame import read_table
from mfed_ray.results.growing import Table
from mfed_ray.results.tables import CORRELATIONS, FUSING, METRICS, ROUNDS, open_table

CONFIG = {"rounds": 3, "algorithm": {"name": "mfed", "correlation_threshold": -1.0}}
KINDS: dict[str, Any] = {"str": "a", "int64": 7, "float64": 0.1, "bool": True, "boolean": None}


def correlation(number: int, group: str = "saliency") -> dict[str, Any]:
    return {"run_id": "r", "round": number, "group": group, "other": "x", "correlation": 0.1 * number, "fused": True}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "correlations.parquet", CORRELATIONS, CONFIG)


@pytest.mark.parametrize("columns", [METRICS, ROUNDS, CORRELATIONS, FUSING])
def test_file_has_the_named_columns_and_types(tmp_path: Path, columns: dict[str, str]) -> None:
    path = tmp_path / "table.parquet"
    table = Table(path, columns, CONFIG)
    row = {name: KINDS[kind] for name, kind in columns.items()}
    table.add([dict(reversed(row.items()))])
    table.write()
    frame = read_table(path)
    assert frame.to_dict("records") == [row]
    assert list(frame.columns) == list(columns)
    assert [str(frame[name].dtype) for name, kind in columns.items() if kind not in ("str", "boolean")] == [
        kind for kind in columns.values() if kind not in ("str", "boolean")
    ]


def test_a_table_that_is_missing_or_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"missing\.parquet: cannot be read as a Parquet table \(.*missing"):
        read_table(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("round,value\n1,2\n")
    with pytest.raises(RunFolderError, match=r"text\.parquet: cannot be read as a Parquet table \("):
        Table(tmp_path / "text.parquet", ROUNDS, CONFIG).restore(1)


def test_the_file_says_who_made_it_from_which_config(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "correlations.parquet"
    table.add([correlation(1)])
    table.write()
    metadata = parquet.read_metadata(path).metadata
    assert metadata[b"mfed_ray"] == (
        b'{"version": 3, "config": {"rounds": 3, "algorithm": {"name": "mfed", "correlation_threshold": -1.0}}}'
    )
    stored = open_table(path, "here", CORRELATIONS)
    assert (stored.config, stored.rows.to_pylist()) == (CONFIG, [correlation(1)])


def test_types_and_the_order_of_columns_are_ours(tmp_path: Path) -> None:
    """Whatever pandas made of them: 32 bits, dictionaries, a column more."""
    path = tmp_path / "correlations.parquet"
    frame = pd.DataFrame([correlation(1)]).assign(more=1)
    frame.astype({"round": "int32", "group": "category"})[["more", *reversed(CORRELATIONS)]].to_parquet(path)
    rows = open_table(path, "here", CORRELATIONS).rows
    assert rows.column_names == list(CORRELATIONS)
    assert [str(kind) for kind in rows.schema.types] == [
        "string", "int64", "string", "string", "double", "bool"
    ]  # fmt: skip


def test_a_newer_version_and_a_lacking_column_are_refused(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "correlations.parquet"
    table.write()
    rows = parquet.read_table(path)
    newer = rows.replace_schema_metadata({b"mfed_ray": b'{"version": 4}'})
    parquet.write_table(newer, path)
    message = r"^here: written by a newer version of mfed_ray \(tables of version 4; known here: 1 to 3\)$"
    with pytest.raises(RunFolderError, match=message):
        open_table(path, "here", CORRELATIONS)
    with pytest.raises(RunFolderError, match=r"correlations\.parquet: written by a newer version"):
        table.restore(1)
    parquet.write_table(rows.drop_columns(["fused", "other"]), path)
    with pytest.raises(RunFolderError, match=r"^here: lacks the column other, fused$"):
        open_table(path, "here", CORRELATIONS)


def test_a_flipped_bit_is_found(table: Table, tmp_path: Path) -> None:
    """Uncompressed it would be another number: the page's checksum tells."""
    path = tmp_path / "correlations.parquet"
    table.add([correlation(number) for number in range(50)])
    table.write()
    content = bytearray(path.read_bytes())
    offset = parquet.read_metadata(path).row_group(0).column(4).dictionary_page_offset
    content[offset + 100] ^= 1
    with pytest.raises(
        RunFolderError, match=r"^here: cannot be read as a Parquet table \(could not verify page integrity"
    ):
        open_table(pa.BufferReader(bytes(content)), "here", CORRELATIONS)
