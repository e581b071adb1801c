from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.results.frame import read_table
from mfed_ray.results.growing import Table
from mfed_ray.results.tables import CORRELATIONS, open_table
from tests.results.conftest import whole_table

CONFIG = {"rounds": 3, "algorithm": {"name": "mfed", "correlation_threshold": -1.0}}
FILE = "correlations.parquet"


def correlation(number: int, group: str = "saliency") -> dict[str, Any]:
    return {"run_id": "r", "round": number, "group": group, "other": "x", "correlation": 0.1 * number, "fused": True}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / FILE, CORRELATIONS, CONFIG)


def rounds_in(path: Path) -> list[int]:
    return [int(number) for number in read_table(path)["round"]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """A file that is replaced gets another state."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def write_rounds(table: Table, rounds: Sequence[int]) -> None:
    for number in rounds:
        table.add([correlation(number), correlation(number, "human_parts")])
        table.write()


def write_until_parts(table: Table, folder: Path, count: int = 2) -> int:
    """Rounds from 0 until so many parts lie beside the file; the last of them."""
    number = -1
    while len(names(folder)) <= count:
        number += 1
        write_rounds(table, [number])
    return number


def test_an_empty_table_keeps_its_columns(table: Table, tmp_path: Path) -> None:
    """FedAvg has no correlations: its file is there, and empty."""
    table.write()
    frame = read_table(tmp_path / FILE)
    assert (len(frame), list(frame.columns)) == (0, list(CORRELATIONS))
    assert [str(frame[name].dtype) for name in ("round", "fused")] == ["int64", "bool"]


def test_all_rows_so_far_are_in_the_folder(table: Table, tmp_path: Path) -> None:
    for number in (1, 2):
        write_rounds(table, [number])
    assert whole_table(tmp_path, "correlations")["round"].tolist() == [1, 1, 2, 2]
    table.finish()
    assert rounds_in(tmp_path / FILE) == [1, 1, 2, 2]
    assert names(tmp_path) == [FILE]


def test_a_write_that_fails_leaves_the_old_file(table: Table, tmp_path: Path) -> None:
    path = tmp_path / FILE
    table.add([correlation(1)])
    table.write()
    before = path.read_bytes()
    table.add([{**correlation(2), "round": "second"}])
    with pytest.raises(ValueError, match="second"):
        table.write()
    assert path.read_bytes() == before


def test_restore_drops_rows_of_later_rounds(table: Table, tmp_path: Path) -> None:
    path = tmp_path / FILE
    table.add([correlation(number) for number in (0, 1, 2, 3)])
    table.write()
    resumed = Table(path, CORRELATIONS, CONFIG)
    resumed.restore(last_round=1)
    assert rounds_in(path) == [0, 1, 2, 3]  # the file changes with the next write only
    resumed.add([correlation(2, "saliency again")])
    resumed.write()
    assert rounds_in(path) == [0, 1, 2]
    assert read_table(path)["group"].tolist() == ["saliency", "saliency", "saliency again"]
    assert read_table(path)["correlation"].tolist() == [0.0, 0.1, 0.2]


def test_restore_of_an_undisturbed_table_writes_the_same_bytes(table: Table, tmp_path: Path) -> None:
    path = tmp_path / FILE
    table.add([correlation(1), {**correlation(2), "correlation": float("nan"), "fused": False}])
    table.write()
    before = path.read_bytes()
    resumed = Table(path, CORRELATIONS, CONFIG)
    resumed.restore(last_round=2)
    resumed.write()
    assert path.read_bytes() == before


def test_a_table_of_version_1_is_taken_up_and_becomes_one_of_version_3(tmp_path: Path) -> None:
    """As version 1 wrote it: by pandas, without a word on version and config."""
    path = tmp_path / FILE
    pd.DataFrame([correlation(1), correlation(2)]).to_parquet(path, index=False)
    assert open_table(path, "here", CORRELATIONS).config is None
    resumed = Table(path, CORRELATIONS, CONFIG)
    resumed.restore(last_round=1)
    resumed.add([correlation(2, "again")])
    resumed.write()
    stored = open_table(path, "here", CORRELATIONS)
    assert (stored.config, stored.rows.to_pylist()) == (CONFIG, [correlation(1), correlation(2, "again")])


def test_a_write_touches_its_own_part_or_folds(table: Table, tmp_path: Path) -> None:
    """What is folded has at most the bytes of the parts, twice, and of the round: the bytes of one round do not grow
    with the rounds before it. Nor do a reader's bytes exceed the file's twice, and a round."""
    written, folded = [], list[int]()
    for number in range(200):
        before = states(tmp_path)
        write_rounds(table, [number])
        after = states(tmp_path)
        (touched,) = [name for name, state in after.items() if before.get(name) != state]
        size = (tmp_path / touched).stat().st_size
        if touched == FILE:
            assert names(tmp_path) == [FILE]
            folded.append(size)
        else:
            assert touched == f"correlations.{number:06d}.parquet"
            assert before.keys() == after.keys() - {touched}
            written.append(size)
        parts = sum((tmp_path / name).stat().st_size for name in names(tmp_path) if name != FILE)
        assert parts < (tmp_path / FILE).stat().st_size + max(written, default=0)
    assert sum(folded[1:]) <= 2 * sum(written) + len(folded) * max(written)
    assert 3 <= len(folded) < len(written)
    assert whole_table(tmp_path, "correlations")["round"].tolist() == [number // 2 for number in range(400)]


def test_finish_leaves_the_file_that_one_write_of_all_would(table: Table, tmp_path: Path) -> None:
    last = write_until_parts(table, tmp_path)
    table.finish()
    assert names(tmp_path) == [FILE]
    (tmp_path / "once").mkdir()
    once = Table(tmp_path / "once" / FILE, CORRELATIONS, CONFIG)
    once.add(correlation(number, group) for number in range(last + 1) for group in ("saliency", "human_parts"))
    once.write()
    assert names(tmp_path / "once") == [FILE]
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "once" / FILE).read_bytes()


def test_finish_of_a_whole_table_leaves_it(table: Table, tmp_path: Path) -> None:
    write_rounds(table, [0])
    before = states(tmp_path)
    table.finish()
    assert states(tmp_path) == before


def test_a_write_without_a_change_writes_nothing(table: Table, tmp_path: Path) -> None:
    table.write()
    write_rounds(table, [1])
    before = states(tmp_path)
    table.write()
    table.add([])
    table.write()
    assert states(tmp_path) == before


def test_a_second_event_replaces_the_part_of_its_round(table: Table, tmp_path: Path) -> None:
    last = write_until_parts(table, tmp_path, 3)
    while len(names(tmp_path)) != 2:  # one part beside a file of more bytes: the next write does not fold
        last += 1
        write_rounds(table, [last])
    before = states(tmp_path)
    table.add([correlation(last, "later")])
    table.change(last, correlation=99.0)
    table.write()
    after = states(tmp_path)
    assert [name for name in before if before[name] != after[name]] == [f"correlations.{last:06d}.parquet"]
    assert before.keys() == after.keys()
    frame = whole_table(tmp_path, "correlations")
    assert frame["round"].tolist() == [number // 2 for number in range(2 * (last + 1))] + [last]
    assert frame["group"].tolist()[-3:] == ["saliency", "human_parts", "later"]
    assert frame["correlation"].tolist()[-4:] == [pytest.approx(0.1 * (last - 1)), 99.0, 99.0, 99.0]


def test_a_second_event_of_a_round_that_was_folded_is_a_part(table: Table, tmp_path: Path) -> None:
    write_rounds(table, [0])
    table.add([correlation(0, "later")])
    table.write()
    assert names(tmp_path) == ["correlations.000000.parquet", FILE]
    assert rounds_in(tmp_path / FILE) == [0, 0]
    assert whole_table(tmp_path, "correlations")["group"].tolist() == ["saliency", "human_parts", "later"]
    table.finish()
    assert read_table(tmp_path / FILE)["group"].tolist() == ["saliency", "human_parts", "later"]


def test_a_change_of_another_round_changes_nothing(table: Table, tmp_path: Path) -> None:
    write_rounds(table, [0, 1])
    before = states(tmp_path)
    table.change(0, correlation=0.5)
    table.write()
    assert states(tmp_path) == before


@pytest.mark.parametrize("behind", [1, 2])
def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(table: Table, tmp_path: Path, behind: int) -> None:
    """Killed ``behind`` rounds after its last checkpoint; then again while it folded: the parts of before, those of
    rounds that did not finish included, lie there still, and half a file."""
    last = write_until_parts(table, tmp_path, 3) - behind
    left = {name: (tmp_path / name).read_bytes() for name in names(tmp_path) if name != FILE}
    before = states(tmp_path)
    again = Table(tmp_path / FILE, CORRELATIONS, CONFIG)
    again.restore(last)
    assert states(tmp_path) == before  # the folder changes with the next write only
    write_rounds(again, [last + 1])
    assert names(tmp_path) == [FILE]
    assert rounds_in(tmp_path / FILE) == [number // 2 for number in range(2 * (last + 2))]
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".correlations.parquet.tmp").write_bytes(b"half")
    rounds = whole_table(tmp_path, "correlations")["round"].tolist()
    assert rounds == [number // 2 for number in range(2 * (last + behind + 1))]
    resumed = Table(tmp_path / FILE, CORRELATIONS, CONFIG)
    resumed.restore(last + 1)
    write_rounds(resumed, range(last + 2, last + 9))
    resumed.finish()
    assert names(tmp_path) == [FILE]
    (tmp_path / "straight").mkdir()
    straight = Table(tmp_path / "straight" / FILE, CORRELATIONS, CONFIG)
    write_rounds(straight, range(last + 9))
    straight.finish()
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "straight" / FILE).read_bytes()


def test_a_table_that_begins_anew_takes_nothing_over(table: Table, tmp_path: Path) -> None:
    write_until_parts(table, tmp_path)
    write_rounds(Table(tmp_path / FILE, CORRELATIONS, CONFIG), [0])
    assert (names(tmp_path), rounds_in(tmp_path / FILE)) == ([FILE], [0, 0])


def test_a_run_that_was_killed_after_its_last_round_is_only_finished(table: Table, tmp_path: Path) -> None:
    last = write_until_parts(table, tmp_path)
    resumed = Table(tmp_path / FILE, CORRELATIONS, CONFIG)
    resumed.restore(last)
    resumed.finish()
    assert names(tmp_path) == [FILE]
    assert rounds_in(tmp_path / FILE) == [number // 2 for number in range(2 * (last + 1))]


def test_parts_without_their_file_are_no_table(table: Table, tmp_path: Path) -> None:
    last = write_until_parts(table, tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(RunFolderError, match=r"correlations\.parquet: cannot be read \(.*correlations\.parquet"):
        Table(tmp_path / FILE, CORRELATIONS, CONFIG).restore(last)
