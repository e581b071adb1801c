"""A run's table while the run goes on: a round's rows are written by themselves."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute

from mfed_ray.results.find import folder_at
from mfed_ray.results.parts import part_name, parts_of, read_whole
from mfed_ray.results.tables import Row, table_schema, write_table


class Table:
    """A growing table in a run's folder. Rows come in the order of rounds; a reader sees whole rounds only.

    A round is written as a part beside the table's file (``mfed_ray.results.parts``). When the parts have as many bytes
    as the file, they and the round are folded into it. So folding writes about twice the bytes of the parts at most, a
    reader reads about twice the file at most, and rows of earlier rounds are in memory only while they are folded.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], config: Mapping[str, Any]) -> None:
        self._path, self._columns, self._config = path, columns, config
        self._last = -1  # round in the folder that counts
        self._newest: list[Row] = []
        self._changed = False  # since the last write
        self._bytes = 0  # of the file that this table wrote
        self._part_bytes: dict[int, int] = {}  # by round

    def restore(self, last_round: int) -> None:
        """Take up the folder's rows up to and with ``last_round``; later ones belong to a round that did not finish.

        The folder stays as it is until the next write. Raises RunFolderError.
        """
        rows = self._stored()
        self._newest = rows.filter(compute.equal(rows["round"], last_round)).to_pylist()
        self._last = last_round

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows of the newest round, or of one that is newer, that have every column."""
        for row in rows:
            if self._newest and not self._changed and row["round"] != self._newest[-1]["round"]:
                self._newest = []  # they are in the folder
            self._newest.append(row)
            self._changed = True

    def change(self, round_number: int, **largest: float) -> None:
        """Raise values in the rows of the newest round to those given, if they are less and it is this round."""
        for index, row in enumerate(self._newest):
            if row["round"] == round_number:
                self._newest[index] = {**row, **{name: max(row[name], value) for name, value in largest.items()}}
                self._changed = True

    def has(self, stage: str) -> bool:
        """Whether the newest round has a value of the stage."""
        return any(row["stage"] == stage for row in self._newest)

    def write(self) -> None:
        """Put the newest round into the folder. The first write folds, and so drops what does not count there."""
        if self._bytes and not self._changed:
            return
        if sum(self._part_bytes.values()) >= self._bytes or self._has_several_rounds():
            self._fold()
            return
        rows, number = self._newest_rows(), self._newest[-1]["round"]
        part = self._path.with_name(part_name(self._path.name, number))
        self._part_bytes[number] = write_table(part, rows, self._config)
        self._last, self._changed = number, False

    def finish(self) -> None:
        """Fold what is left, so that the file alone has all rows."""
        if not self._bytes or self._part_bytes or self._changed:
            self._fold()

    def _fold(self) -> None:
        """Replace the file by all rows that count; then remove the parts."""
        self._replace_file()
        folder = self._path.parent
        for name in parts_of(self._path.name, [path.name for path in folder.iterdir()]).values():
            (folder / name).unlink()
        self._part_bytes, self._changed = {}, False
        if self._newest:
            self._last = self._newest[-1]["round"]
        pa.default_memory_pool().release_unused()  # else the process keeps what folding took, more with every fold

    def _replace_file(self) -> None:
        rows = self._newest_rows()
        if self._last >= 0:
            earlier = self._stored()
            first = self._newest[0]["round"] if self._newest else self._last + 1
            earlier = earlier.filter(compute.less(earlier["round"], min(first, self._last + 1)))
            rows = pa.concat_tables([earlier, rows]).combine_chunks()
        self._bytes = write_table(self._path, rows, self._config)

    def _stored(self) -> pa.Table:
        return read_whole(folder_at(str(self._path.parent)), self._path.name, self._columns).rows

    def _newest_rows(self) -> pa.Table:
        return pa.Table.from_pylist(self._newest, schema=table_schema(self._columns))

    def _has_several_rounds(self) -> bool:
        return bool(self._newest) and self._newest[0]["round"] != self._newest[-1]["round"]
