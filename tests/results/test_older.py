"""Runs whose tables say neither what tasks are judged by nor the setting."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mfed_ray.results.loading import load
from mfed_ray.results.older import described, unknown_tasks
from mfed_ray.results.summary import summarise
from mfed_ray.results.tables import METRICS
from tests.results.conftest import MakeRun, rewrite_as_version_2


def table(*rows: tuple[str, str, str, str]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(("run_id", "task", "metric", "split"), row, strict=True)) for row in rows])


def test_columns_by_hand() -> None:
    """The setting is the third part from an id's end; an id of another form has none."""
    columns = described(
        table(
            ("tiny-mfed-0a1b-ff-seed0", "saliency", "max_miou", "val"),
            ("tiny-two-local-0a1b-ff-seed0", "saliency", "max_f", "val"),
            ("mine", "surface_normals", "mean_error", "val"),
            ("a-b-seed0", "depth", "miou", "val"),
        )
    )
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "headline": [True, False, True, False],
        "higher_is_better": [True, None, False, None],
        "setting": ["0a1b", "0a1b", None, None],
    }


def test_unknown_tasks_are_those_that_clients_were_evaluated_in() -> None:
    """What stands in training's rows are task groups."""
    rows = table(
        ("r", "saliency", "max_miou", "val"),
        ("r", "saliency+depth", "loss", "train"),
        ("r", "flow", "epe", "val"),
        ("r", "depth", "rmse", "val"),
    )
    assert unknown_tasks(rows) == ["depth", "flow"]


@pytest.fixture(params=[1, 2])
def make_older(request: pytest.FixtureRequest, as_version_1: Callable[[Path], None]) -> Callable[[Path], None]:
    """Rewrites a run's tables as an older version wrote them."""
    return as_version_1 if request.param == 1 else rewrite_as_version_2


def test_older_runs_load_and_are_summarised_as_new_ones(make_run: MakeRun, make_older: Callable[[Path], None]) -> None:
    local = make_run("local", value=0.5, run_id="tiny-local-s-aa-seed0", algorithm={"name": "local"})
    mfed = make_run("mfed", value=0.6, run_id="tiny-mfed-s-bb-seed0")
    new = load([local, mfed])
    make_older(mfed)
    mixed = load([local, mfed])
    pd.testing.assert_frame_equal(mixed.metrics[list(METRICS)], new.metrics[list(METRICS)])
    table = summarise(mixed.metrics)
    pd.testing.assert_frame_equal(table, summarise(new.metrics))
    assert table["Delta_m [%]", "mean"].tolist() == [0.0, pytest.approx(20.0)]
    assert not any("headline" in problem for problem in mixed.problems)


def test_a_task_that_nobody_knows_is_told(make_run: MakeRun) -> None:
    folder = make_run("old")
    path = folder / "metrics.parquet"
    rows = pd.read_parquet(path)
    other = rows.assign(task="depth", metric="rmse")
    pd.concat([rows, other]).drop(columns=["headline", "higher_is_better", "setting"]).to_parquet(path, index=False)
    results = load(folder)
    assert results.problems[-1] == (
        f"{folder}: written by an older version of mfed_ray: no headline metric is known of depth, so no summary has it"
    )
    names = summarise(results.metrics).columns.get_level_values(0)
    assert {"saliency max_miou"} == {name for name in names if name.startswith(("saliency", "depth"))}
