"""Reading a table whose run goes on, or was killed at any moment: laid by hand, each file with the rounds given."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.results.curves import read_curve
from mfed_ray.results.find import folder_at
from mfed_ray.results.growing import Table
from mfed_ray.results.loading import load
from mfed_ray.results.parts import has_parts, part_name, parts_of, read_whole
from mfed_ray.results.tables import CORRELATIONS, METRICS, table_schema, write_table
from mfed_ray.storage import Mirror, files_below, locate
from tests.results.conftest import CONFIG, headline_columns, whole_table

FILE = "correlations.parquet"


def lay(folder: Path, name: str, *rounds: int, value: float = 0.0) -> None:
    rows = [
        {"run_id": "r", "round": number, "group": "a", "other": "b", "correlation": value, "fused": True}
        for number in rounds
    ]
    write_table(folder / name, pa.Table.from_pylist(rows, schema=table_schema(CORRELATIONS)), {})


def read(folder: Path) -> list[tuple[int, float]]:
    """Rounds and values; a value says which file it is from."""
    frame = whole_table(folder, "correlations")
    return list(frame[["round", "correlation"]].itertuples(index=False, name=None))


def metric_row(number: int, value: float) -> dict[str, Any]:
    row = {"run_id": "r", "experiment": "tiny", "algorithm": "mfed", "seed": 0, "round": number, "dataset": "x"}
    row |= {"client": "saliency-0", "task": "saliency", "stage": "after_aggregation", "value": value}
    return row | headline_columns("saliency", "s")


def test_names() -> None:
    assert part_name("metrics.parquet", 7) == "metrics.000007.parquet"
    assert part_name("metrics.parquet", 1_234_567) == "metrics.1234567.parquet"
    files = ["metrics.000010.parquet", "metrics.parquet", "metrics.1234567.parquet", "metrics.000009.parquet"]
    files += ["rounds.000001.parquet", ".metrics.parquet.tmp", "metrics.7.parquet", "metrics.000011.parquet.bak"]
    assert list(parts_of("metrics.parquet", files).items()) == [
        (9, "metrics.000009.parquet"), (10, "metrics.000010.parquet"), (1234567, "metrics.1234567.parquet")
    ]  # fmt: skip


def test_rounds_of_the_parts_follow_those_of_the_file(tmp_path: Path) -> None:
    lay(tmp_path, FILE, 0, 1)
    lay(tmp_path, part_name(FILE, 3), 3, value=3.0)
    lay(tmp_path, part_name(FILE, 2), 2, 2, value=2.0)
    lay(tmp_path, part_name("rounds.parquet", 4), 4)
    assert read(tmp_path) == [(0, 0.0), (1, 0.0), (2, 2.0), (2, 2.0), (3, 3.0)]


def test_an_empty_file_and_its_parts(tmp_path: Path) -> None:
    lay(tmp_path, FILE)
    lay(tmp_path, part_name(FILE, 1), 1, value=1.0)
    assert read(tmp_path) == [(1, 1.0)]


def test_parts_that_are_left_after_folding_show_no_row_twice(tmp_path: Path) -> None:
    """The file has rounds 0 to 3 complete; a part of before has round 2 as it was. That of the last round replaces it:
    its second event comes after it was folded."""
    lay(tmp_path, FILE, 0, 1, 2, 3)
    lay(tmp_path, part_name(FILE, 2), 2, value=2.0)
    assert read(tmp_path) == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]
    lay(tmp_path, part_name(FILE, 3), 3, 3, value=3.0)
    lay(tmp_path, part_name(FILE, 4), 4, value=4.0)
    assert read(tmp_path) == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 3.0), (3, 3.0), (4, 4.0)]


def test_what_was_folded_since_the_folder_was_listed_is_in_the_file(tmp_path: Path) -> None:
    """Round 2 was listed and is folded, round 4 came later."""
    lay(tmp_path, FILE, 0, 1)
    for number in (2, 3):
        lay(tmp_path, part_name(FILE, number), number, value=1.0)
    listed = folder_at(str(tmp_path))
    lay(tmp_path, FILE, 0, 1, 2, 3)
    (tmp_path / part_name(FILE, 2)).unlink()
    (tmp_path / part_name(FILE, 3)).unlink()
    lay(tmp_path, part_name(FILE, 4), 4)
    assert read_whole(listed, FILE, CORRELATIONS).rows["round"].to_pylist() == [0, 1, 2, 3]
    assert read_whole(folder_at(str(tmp_path)), FILE, CORRELATIONS).rows["round"].to_pylist() == [0, 1, 2, 3, 4]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    lay(tmp_path, FILE, 0)
    (tmp_path / part_name(FILE, 1)).write_bytes(b"PAR1 cut off")
    place = re.escape(f"{tmp_path}/correlations.000001.parquet")
    with pytest.raises(RunFolderError, match=f"^{place}: cannot be read as a Parquet table \\("):
        read(tmp_path)


def test_a_table_without_its_file(tmp_path: Path) -> None:
    lay(tmp_path, part_name(FILE, 1), 1)
    with pytest.raises(RunFolderError, match=f"^{re.escape(str(tmp_path))}/{FILE}: cannot be read \\("):
        read(tmp_path)


def test_whether_a_folder_has_parts(tmp_path: Path) -> None:
    lay(tmp_path, FILE, 0)
    (tmp_path / ".correlations.parquet.tmp").touch()
    assert not has_parts(tmp_path)
    lay(tmp_path, part_name(FILE, 1), 1)
    assert has_parts(tmp_path)


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_run_at_a_uri_is_read_while_it_goes_on_and_ends_as_one_file(tmp_path: Path, scheme: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    place = f"memory://{uuid4().hex}/run" if scheme == "memory" else f"file://{tmp_path}/remote/run"
    mirror = Mirror(place)
    table = Table(folder / "metrics.parquet", METRICS, {**CONFIG, "rounds": 9})
    seen = set[str]()
    for number in range(10):
        table.add([metric_row(number, number / 10)])
        table.write()
        mirror.push(folder)
        there = files_below(*locate(place))
        assert sorted(there) == sorted(path.name for path in folder.iterdir())
        seen |= there.keys()
        for run in (place, str(folder)):
            assert load(run).metrics["value"].tolist() == [one / 10 for one in range(number + 1)]
            assert read_curve(run).rounds == {one: {"saliency": one / 10} for one in range(number + 1)}
    assert len(seen) > 3
    pulled = tmp_path / "pulled"
    Mirror(place).pull(pulled)
    resumed = Table(pulled / "metrics.parquet", METRICS, CONFIG)
    resumed.restore(9)
    assert resumed.has("after_aggregation")
    table.finish()
    mirror.push(folder)
    assert list(files_below(*locate(place))) == ["metrics.parquet"]
    assert load(place).problems == [f"{place}: has no rounds.parquet", f"{place}: has no correlations.parquet"]


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert folder_at(str(tmp_path / "nowhere")).files == frozenset()
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=f"^{re.escape(str(tmp_path))}/file: cannot be listed \\("):
        folder_at(str(tmp_path / "file"))
