"""The parts of a table: files beside its own that hold the rounds since it was last replaced.

``metrics.000007.parquet`` has all rows of round 7. A part of a round before the last one in ``metrics.parquet`` is left
from before and does not count. A part of that last round has more of it than the file, and replaces its rows. A table
without its file is none.
"""

import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from pyarrow import compute

from mfed_ray.results.find import Found
from mfed_ray.results.tables import Stored, open_table
from mfed_ray.storage import refusal

_PART = re.compile(r"(\w+)\.(\d{6,})\.parquet")
_THREADS = 8


def part_name(name: str, number: int) -> str:
    """The name of the part that has a round of the table."""
    return f"{name.removesuffix('.parquet')}.{number:06d}.parquet"


def parts_of(name: str, files: Iterable[str]) -> dict[int, str]:
    """By round, which of the files are parts of the table."""
    found = {
        int(match[2]): match[0] for match in map(_PART.fullmatch, files) if match and f"{match[1]}.parquet" == name
    }
    return dict(sorted(found.items()))


def has_parts(folder: Path) -> bool:
    """Whether a table in the folder has parts: its run has not come to its end."""
    return any(_PART.fullmatch(name) for name in os.listdir(folder))


def read_whole(found: Found, name: str, columns: Mapping[str, str]) -> Stored:
    """A table of a run's folder with its parts. Raises RunFolderError where one of its files is damaged,
    and as ``mfed_ray.storage.refusal`` where one cannot be read.

    The run may go on meanwhile. So the parts are read first: what is in none of them is in the file by then.
    """
    try:
        listed = parts_of(name, found.files)
        parts: dict[int, pa.Table] = {}
        if listed:
            with ThreadPoolExecutor(_THREADS) as pool:
                read = pool.map(lambda part: _part(found, part, columns), listed.values())
                parts = {number: rows for number, rows in zip(listed, read, strict=True) if rows is not None}
        stored = _open(found, name, columns)
    except OSError as error:
        raise refusal(error, found.place_of(name), "read") from None
    last = compute.max(stored.rows["round"]).as_py() if stored.rows.num_rows else -1
    newer = {number: rows for number, rows in parts.items() if number >= last}
    if not newer:
        return stored
    earlier = stored.rows.filter(compute.less(stored.rows["round"], min(newer)))
    return replace(stored, rows=pa.concat_tables([earlier, *newer.values()]))


def _part(found: Found, name: str, columns: Mapping[str, str]) -> pa.Table | None:
    """None where it has been folded into the table's file since the folder was listed."""
    try:
        return _open(found, name, columns).rows
    except FileNotFoundError:
        return None


def _open(found: Found, name: str, columns: Mapping[str, str]) -> Stored:
    with found.open(name) as file:
        return open_table(pa.BufferReader(file.read()), found.place_of(name), columns)  # a remote file: in one piece
