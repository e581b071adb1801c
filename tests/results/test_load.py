import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.results import load_results
from mfed_ray.results.tables import METRICS, Table

MakeRun = Callable[[str], Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run's folder whose one value is its name's length."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        table = Table(folder / "metrics.parquet", METRICS)
        texts = dict.fromkeys((column for column, kind in METRICS.items() if kind == "str"), "x")
        table.add([{**texts, "run_id": name, "seed": 0, "round": 1, "value": len(name)}])
        table.write()
        return folder

    return make


def test_one_folder_as_text_and_as_path(make_run: MakeRun) -> None:
    folder = make_run("one")
    for path in (folder, str(folder)):
        found = load_results(path)
        assert list(found.columns) == list(METRICS)
        assert list(zip(found["run_id"], found["value"], strict=True)) == [("one", 3.0)]


def test_runs_at_any_depth_below_a_folder(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("b/seed0", "a", "b/deep/er/seed1"):
        make_run(name)
    (tmp_path / "b" / "notes.txt").write_text("not a run")
    found = load_results(tmp_path)
    assert found["run_id"].tolist() == ["a", "b/deep/er/seed1", "b/seed0"]
    assert found.index.tolist() == [0, 1, 2]


def test_several_paths_in_the_order_given(make_run: MakeRun) -> None:
    paths: list[str | Path] = [make_run("z"), str(make_run("a"))]
    assert load_results(paths)["run_id"].tolist() == ["z", "a"]


def test_where_there_is_no_run(make_run: MakeRun, tmp_path: Path) -> None:
    good, empty = make_run("good"), tmp_path / "empty"
    empty.mkdir()
    missing = re.escape(str(tmp_path / "missing"))
    with pytest.raises(RunFolderError, match=f"^{missing}: no such folder; expected a run's folder, or one with runs"):
        load_results([good, tmp_path / "missing"])
    with pytest.raises(RunFolderError, match=r"empty: no run in it or below it \(looked for metrics\.parquet\)"):
        load_results([good, empty])
    with pytest.raises(RunFolderError, match="no path found in the list; expected a run's folder, or several"):
        load_results([])


def test_an_unreadable_table_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("good")
    (make_run("bad") / "metrics.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(RunFolderError, match=r"bad.metrics\.parquet: cannot be read as a Parquet table \("):
        load_results(tmp_path)
