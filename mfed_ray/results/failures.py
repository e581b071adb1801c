"""The table of a run's failures: a line of JSON for each row, so that one is there as soon as it happened."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfed_ray.durable import flush
from mfed_ray.errors import RunFolderError
from mfed_ray.federation.events import Absent, Failure
from mfed_ray.json_text import from_json
from mfed_ray.locks import not_followed
from mfed_ray.results.find import FAILURES_FILE, Found, folder_at
from mfed_ray.results.tables import FAILURES, Row, table_schema
from mfed_ray.storage import reason


def append(folder: Path, run_id: str, event: Failure) -> None:
    """Add a row for each client. They are on the disk when this returns."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    rows = [
        {
            "run_id": run_id,
            "time": time,
            "round": event.round,
            "phase": event.phase,
            "client": client,
            "error": event.error,
            "outcome": event.outcome,
        }
        for client in event.clients
    ]
    with open(folder / FAILURES_FILE, "a+b", opener=not_followed) as file:
        file.seek(0)
        file.truncate(_whole(file.read()))
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    flush([folder / FAILURES_FILE, folder])


def read_failures(found: Found) -> pa.Table:
    """The table of a run's folder, in the order in which the failures came; without rows where none did.

    A last line that a kill cut off does not count. Raises RunFolderError where the file cannot be read.
    """
    if FAILURES_FILE not in found.files:
        return table_schema(FAILURES).empty_table()
    place = found.place_of(FAILURES_FILE)
    try:
        with found.open(FAILURES_FILE) as file:
            content = file.read()
        lines = content[: _whole(content)].splitlines()
        return pa.Table.from_pylist(list(_rows(lines, place)), schema=table_schema(FAILURES))
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise RunFolderError(f"{place}: cannot be read ({reason(error, place)})") from None


def absent(folder: Path) -> Absent:
    """Who was dropped in the rounds of a run: whoever goes on with it leaves them out again. Raises RunFolderError."""
    gone: dict[Any, set[str]] = {}
    for row in read_failures(folder_at(str(folder))).to_pylist():
        if row["outcome"] == "dropped":
            gone.setdefault((row["phase"], row["round"]), set()).add(row["client"])
    return gone


def _rows(lines: Sequence[bytes], place: str) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        try:
            row = from_json(line)
        except ValueError as error:
            raise RunFolderError(f"{place}:{number}: no JSON ({error}); expected a row of the table") from error
        if not isinstance(row, dict) or row.keys() != FAILURES.keys():
            raise RunFolderError(f"{place}:{number}: expected an object with the keys {', '.join(FAILURES)}")
        yield row


def _whole(content: bytes) -> int:
    """How many bytes the whole lines have."""
    return content.rfind(b"\n") + 1
