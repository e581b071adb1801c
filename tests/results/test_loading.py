import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mfed_ray.errors import ResultsWarning, RunFolderError
from mfed_ray.results.loading import Results, load, load_results, shortened
from mfed_ray.results.tables import CORRELATIONS, FUSING, METRICS, ROUNDS
from mfed_ray.storage import Mirror

MakeRun = Callable[..., Path]


def ids(results: Results) -> list[str]:
    return list(results.folders)


def test_one_folder_as_text_and_as_path(make_run: MakeRun) -> None:
    folder = make_run("one", value=0.25)
    for path in (folder, str(folder)):
        found = load_results(path)
        assert list(found.columns) == [*METRICS, "rounds", "variant"]
        columns = ["run_id", "experiment", "algorithm", "seed", "round", "value", "rounds", "variant"]
        assert list(found[columns].itertuples(index=False, name=None)) == [
            ("one", "tiny", "mfed", 0, 0, 0.0, 2, "mfed"),
            ("one", "tiny", "mfed", 0, 1, 0.25, 2, "mfed"),
            ("one", "tiny", "mfed", 0, 2, 0.25, 2, "mfed"),
        ]


def test_the_other_tables_say_whose_they_are(make_run: MakeRun) -> None:
    make_run("a", seed=3)
    results = load(make_run("b", rounds=5, until=5).parent)
    about = ["experiment", "algorithm", "seed", "rounds", "variant"]
    for frame, columns, length in (
        (results.rounds, ROUNDS, 3 + 6),
        (results.correlations, CORRELATIONS, 2 + 5),
        (results.fusing, FUSING, 2 + 5),
    ):
        assert list(frame.columns) == [*columns, *about]
        assert len(frame) == length
        assert list(frame[["run_id", *about]].drop_duplicates().itertuples(index=False, name=None)) == [
            ("a", "tiny", "mfed", 3, 2, "mfed rounds=2"),
            ("b", "tiny", "mfed", 0, 5, "mfed rounds=5"),
        ]


def test_runs_at_any_depth_below_a_folder(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("b/seed0", "a", "b/deep/er/seed1"):
        make_run(name)
    (tmp_path / "b" / "notes.txt").write_text("not a run")
    results = load(tmp_path)
    assert ids(results) == ["a", "b/deep/er/seed1", "b/seed0"]
    assert results.folders["b/seed0"] == f"{tmp_path}/b/seed0"
    assert results.metrics.index.tolist() == list(range(9))
    assert results.problems == []


def test_checkpoints_and_hidden_folders_are_not_searched(make_run: MakeRun, tmp_path: Path) -> None:
    one = make_run("one")
    for place in ("one/checkpoints/round_000002", ".trash/one"):
        shutil.copytree(one, tmp_path / place, ignore=shutil.ignore_patterns("checkpoints"))
    assert load(tmp_path).problems == []


def test_several_paths_in_the_order_given_each_run_once(make_run: MakeRun, tmp_path: Path) -> None:
    paths: list[str | Path] = [make_run("z"), str(make_run("a")), tmp_path]
    results = load(paths)
    assert (ids(results), results.problems) == (["z", "a"], [])


def test_columns_for_the_keys_in_which_runs_differ(make_run: MakeRun, tmp_path: Path) -> None:
    """A key that a run does not have is missing there; what cannot change results has no column, nor has the seed."""
    weight, threshold = "algorithm.decoder_proximal_weight", "algorithm.correlation_threshold"
    make_run("a", **{weight: 0.01, threshold: "judged"}, seed=0)
    make_run("b", **{weight: 0.1, "runtime.backend": "ray"}, seed=1)
    make_run("c", algorithm={"name": "local"}, clients=[{"tasks": ["saliency"], "count": 3}])
    results = load(tmp_path)
    first = results.metrics.drop_duplicates("run_id").set_index("run_id")
    assert list(first.columns[len(METRICS) - 1 :]) == ["rounds", "variant", threshold, weight, "clients.0.count"]
    assert first[threshold].tolist()[:2] == ["judged", -1.0]
    assert first[weight].tolist()[:2] == [0.01, 0.1]
    assert first.loc["c", [threshold, weight]].isna().all()
    assert first["clients.0.count"].tolist() == [2, 2, 3]
    assert first["variant"].tolist() == [
        "mfed correlation_threshold=judged decoder_proximal_weight=0.01",
        "mfed correlation_threshold=-1.0 decoder_proximal_weight=0.1",
        "local",
    ]
    assert results.metrics.groupby(weight)["value"].size().to_dict() == {0.01: 3, 0.1: 3}


def damage(folder: Path, how: str) -> None:
    path = folder / "metrics.parquet"
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"PAR1 cut off")
    elif how == "lacks a column":
        pd.read_parquet(path).drop(columns="stage").to_parquet(path)
    elif how == "no rows":
        pd.read_parquet(path).head(0).to_parquet(path)
    else:
        path.unlink()
        (folder / "config.yaml").write_text("rounds: 2")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("truncated", "bad/metrics.parquet: cannot be read as a Parquet table (Parquet magic bytes not found"),
        ("empty", "bad/metrics.parquet: cannot be read as a Parquet table (Parquet file size is 0 bytes)"),
        ("text", "bad/metrics.parquet: cannot be read as a Parquet table ("),
        ("lacks a column", "bad/metrics.parquet: lacks the column stage"),
        ("no rows", "bad: has no value in metrics.parquet"),
        ("only begun", "bad: has no metrics.parquet yet; the run has just begun, or ended before its first round"),
    ],
)
def test_a_run_that_cannot_be_read_is_told_and_the_rest_loads(
    make_run: MakeRun, tmp_path: Path, how: str, told: str
) -> None:
    bad = make_run("bad")
    damage(bad, how)
    with pytest.raises(RunFolderError, match=re.escape(f"{tmp_path}/{told}")):
        load(bad)
    make_run("good")
    results = load(tmp_path)
    assert ids(results) == ["good"]
    assert results.problems[-1].startswith(f"{tmp_path}/{told}")


@pytest.mark.parametrize(
    ("name", "told"),
    [("rounds.parquet", "one: has no rounds.parquet"), ("correlations.parquet", "one: has no correlations.parquet")],
)
def test_a_run_shows_what_is_left_of_its_tables(make_run: MakeRun, tmp_path: Path, name: str, told: str) -> None:
    folder = make_run("one")
    (folder / name).write_bytes(b"damaged")
    results = load(tmp_path)
    assert len(results.problems) == 1
    assert results.problems[0].startswith(f"{folder}/{name}: cannot be read as a Parquet table (")
    (folder / name).unlink()
    results = load(tmp_path)
    assert results.problems == [f"{tmp_path}/{told}"]
    assert (len(results.metrics), len(results.rounds) + len(results.correlations)) == (3, 2 if "rounds" in name else 3)


def test_a_run_of_before_fusing_was_measured_has_no_rows_of_it_and_no_problem(make_run: MakeRun) -> None:
    folder = make_run("one")
    (folder / "fusing.parquet").write_bytes(b"damaged")
    (problem,) = load(folder).problems
    assert problem.startswith(f"{folder}/fusing.parquet: cannot be read as a Parquet table (")
    (folder / "fusing.parquet").unlink()
    results = load(folder)
    assert (len(results.fusing), len(results.correlations), results.problems) == (0, 2, [])
    assert list(results.fusing.columns) == [*FUSING, "experiment", "algorithm", "seed", "rounds", "variant"]


def test_an_unfinished_run_is_loaded_and_told(make_run: MakeRun) -> None:
    results = load(make_run("one", until=12, rounds=50))
    assert results.problems == [f"{results.folders['one']}: 12 of 50 rounds so far"]
    assert results.metrics["rounds"].unique().tolist() == [50]
    assert results.metrics["round"].max() == 12


def test_a_run_of_an_older_version_is_read_with_its_config(
    make_run: MakeRun, as_version_1: Callable[[Path], None], tmp_path: Path
) -> None:
    new = make_run("new", run_id="tiny-mfed-s-bb-seed0", **{"algorithm.decoder_proximal_weight": 0.5})
    old = make_run("old", run_id="tiny-mfed-s-aa-seed0")
    (old / "config.yaml").write_text(
        yaml.safe_dump({"rounds": 2, "algorithm": {"name": "mfed", "decoder_proximal_weight": 0.01}})
    )
    expected = load(tmp_path).metrics
    as_version_1(old)
    results = load([new, old])
    assert results.problems == [f"{old}: written by an older version of mfed_ray: read with its config.yaml"]
    assert results.metrics["variant"].unique().tolist()[1].endswith("decoder_proximal_weight=0.01")
    pd.testing.assert_frame_equal(results.metrics[list(METRICS)], expected[list(METRICS)])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no config.yaml"),
        ("rounds: [", "old/config.yaml: cannot be read as a run's config (while parsing a flow node"),
    ],
)
def test_a_run_of_an_older_version_without_config_is_read_with_what_there_is(
    make_run: MakeRun, as_version_1: Callable[[Path], None], tmp_path: Path, content: str | None, why: str
) -> None:
    """Of its keys nothing is known: they are missing, and make no other run a variant."""
    old = make_run("old", until=1)
    make_run("new", seed=1)
    as_version_1(old)
    if content:
        (old / "config.yaml").write_text(content)
    results = load(tmp_path)
    assert len(results.problems) == 1
    assert results.problems[0].startswith(f"{old}: written by an older version of mfed_ray: read without its config (")
    assert why in results.problems[0]
    assert results.metrics.drop_duplicates("run_id")[["run_id", "rounds", "variant"]].to_numpy().tolist() == [
        ["new", 2, "mfed"],
        ["old", 1, "mfed"],
    ]


def test_the_same_run_in_two_folders_counts_once(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run("a", run_id="r"), make_run("b", run_id="r")
    results = load(tmp_path)
    assert results.folders == {"r": str(first)}
    assert len(results.metrics) == 3
    assert results.problems == [f"{second}: left out, the same run r is in {first} too"]


def test_where_there_is_no_run(make_run: MakeRun, tmp_path: Path) -> None:
    good, empty, missing = make_run("good"), tmp_path / "empty", tmp_path / "missing"
    empty.mkdir()
    file = good / "metrics.parquet"
    told = {
        missing: f"{missing}: no such folder; expected a run's folder, or one with runs below it",
        empty: f"{empty}: no run in it or below it (looked for metrics.parquet)",
        file: f"{file}: is a file; expected a run's folder, or one with runs below it",
    }
    for path, problem in told.items():
        with pytest.raises(RunFolderError, match=f"^{re.escape(problem)}$"):
            load(path)
    assert load([good, *told]).problems == list(told.values())
    with pytest.raises(RunFolderError, match=f"^{re.escape('; '.join(told.values()))}$"):
        load(list(told))
    with pytest.raises(RunFolderError, match="no path found in the list; expected a run's folder, or several"):
        load([])


def test_many_problems_are_shortened(tmp_path: Path) -> None:
    assert shortened([str(number) for number in range(12)]) == [*(str(number) for number in range(10)), "and 2 more"]
    assert shortened([str(number) for number in range(10)]) == [str(number) for number in range(10)]
    with pytest.raises(RunFolderError, match=r"/9: no such folder; .*; and 3 more$"):
        load([tmp_path / str(number) for number in range(13)])


def test_problems_are_warnings_in_python(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("good")
    bad = make_run("bad", until=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = load_results(tmp_path)
    assert [(one.category, str(one.message)) for one in caught] == [(ResultsWarning, f"{bad}: 1 of 2 rounds so far")]
    assert caught[0].filename == __file__
    assert frame["run_id"].unique().tolist() == ["bad", "good"]


def test_a_uri_is_read_as_a_folder_is(make_run: MakeRun, tmp_path: Path) -> None:
    """memory:// stands for whatever fsspec knows; file:// goes through pyarrow."""
    for name in ("a", "b/c"):
        shutil.copytree(make_run(name), tmp_path / "other" / name)
    (tmp_path / "other/a/checkpoints/round_000001").mkdir(parents=True)
    (tmp_path / "other/a/checkpoints/round_000001/metrics.parquet").write_bytes(b"none of ours")
    here = load(tmp_path / "other")
    Mirror("memory://results").push(tmp_path / "other")
    for place in ("memory://results", f"file://{tmp_path}/other/"):
        there = load(place)
        pd.testing.assert_frame_equal(there.metrics, here.metrics)
        assert there.folders == {"a": f"{place.rstrip('/')}/a", "b/c": f"{place.rstrip('/')}/b/c"}
    with pytest.raises(RunFolderError, match=r"^memory://others: no such folder"):
        load("memory://others")


def test_no_secret_of_a_uri_is_in_results(make_run: MakeRun) -> None:
    place = "memory://KEY:SECRET@bucket/runs"
    Mirror(place).push(make_run("a", rounds=2, until=1).parent)
    results = load(place)
    assert results.folders == {"a": "memory://***@bucket/runs/a"}
    assert results.problems == ["memory://***@bucket/runs/a: 1 of 2 rounds so far"]
    assert "SECRET" not in repr(results)
    with pytest.raises(RunFolderError, match=r"^memory://\*\*\*@nowhere/x\?\*\*\*: no such folder"):
        load("memory://KEY:SECRET@nowhere/x?token=SECRET")


def test_an_unknown_scheme_is_named() -> None:
    message = (
        r"^bogus://x: cannot be reached \(Unrecognized filesystem type in URI: bogus://x; Protocol not known: bogus\)"
    )
    with pytest.raises(RunFolderError, match=message):
        load("bogus://x")


def test_numbers_that_some_runs_lack_stay_numbers(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", clients_per_round=4)
    make_run("b", clients_per_round=None)
    values = load(tmp_path).metrics["clients_per_round"].to_numpy()
    np.testing.assert_array_equal(values, [4, 4, 4, np.nan, np.nan, np.nan])
