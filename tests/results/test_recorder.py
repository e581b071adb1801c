from dataclasses import replace
from pathlib import Path

import pytest

from mfed_ray.algorithms.contract import BlockSteps, Diagnostics
from mfed_ray.evaluation import Headline
from mfed_ray.federation.events import Evaluated, Trained
from mfed_ray.messages import ClientReport, ClientSpec, RunIdentity
from mfed_ray.results.find import folder_at
from mfed_ray.results.parts import read_whole
from mfed_ray.results.recorder import Recorder, is_evaluated
from mfed_ray.results.run_folder import RunFolder
from mfed_ray.results.tables import FUSING, METRICS, open_table
from tests.results.conftest import rewrite_as_version_2, whole_table

RUN = RunIdentity("tiny-mfed-0123abcd-seed4", "tiny", "mfed", 4, "abc")
CLIENTS = [
    ClientSpec.of("saliency-0", ("saliency",), "scenes", ("a",), ("b",)),
    ClientSpec.of("human_parts+saliency-0", ("human_parts", "saliency"), "people", ("c",), ("d",)),
]
CONFIG = {"name": "tiny", "rounds": 2}
HEADLINES = {"saliency": Headline("max_miou", higher_is_better=True)}
FIRST, SECOND = (client.name for client in CLIENTS)
INITIAL = (
    Trained(0, [], Diagnostics(), {}, 0, 0, is_evaluated=True),
    Evaluated(0, [ClientReport(FIRST, {}, {"saliency": {"max_miou": 0.5}})], 0.0),
)
TRAINED = Trained(
    1,
    [
        ClientReport(FIRST, {"saliency": {"loss": 2.0}}, {"saliency": {"max_miou": 0.6}}, 1.5, 300),
        ClientReport(SECOND, {"human_parts+saliency": {"steps": 3}}, {}, 1.0, 500),
    ],
    Diagnostics(
        {("saliency", "human_parts+saliency"): 0.25, ("human_parts+saliency", "saliency"): -0.5},
        frozenset({("saliency", "human_parts+saliency")}),
        (BlockSteps("saliency", "saliency", "encoder", 0.5, 2.0, 1.5), BlockSteps("saliency", "x", "encoder", -0.25)),
    ),
    {"fit": 1.0, "aggregate": 0.25},
    bytes_up=1000,
    bytes_down=2000,
    is_evaluated=True,
)
EVALUATED = Evaluated(
    1,
    [ClientReport(SECOND, {}, {"human_parts": {"miou": 0.7}, "saliency": {"max_f": 0.8, "max_miou": 0.9}}, 0.5, 400)],
    0.5,
)
FIRST_ROUND = (TRAINED, EVALUATED)


def recorder(folder: Path, run: RunIdentity = RUN) -> Recorder:
    return Recorder(RunFolder(folder), run, CLIENTS, CONFIG, HEADLINES)


def record(one: Recorder, *events: Trained | Evaluated) -> None:
    for event in events:
        one.record(event)


def test_rows_of_a_round_by_hand(tmp_path: Path) -> None:
    record(recorder(tmp_path), *FIRST_ROUND)
    metrics = whole_table(tmp_path, "metrics")
    assert set(metrics[["run_id", "experiment", "algorithm", "seed", "round"]].itertuples(index=False, name=None)) == {
        ("tiny-mfed-0123abcd-seed4", "tiny", "mfed", 4, 1)
    }
    columns = ["stage", "client", "task", "dataset", "split", "metric", "value"]
    assert list(metrics[columns].itertuples(index=False, name=None)) == [
        ("training", FIRST, "saliency", "scenes", "train", "loss", 2.0),
        ("before_aggregation", FIRST, "saliency", "scenes", "val", "max_miou", 0.6),
        ("training", SECOND, "human_parts+saliency", "people", "train", "steps", 3.0),
        ("after_aggregation", SECOND, "human_parts", "people", "val", "miou", 0.7),
        ("after_aggregation", SECOND, "saliency", "people", "val", "max_f", 0.8),
        ("after_aggregation", SECOND, "saliency", "people", "val", "max_miou", 0.9),
    ]


def test_floors_stand_beside_the_evaluation_that_tells_them(tmp_path: Path) -> None:
    floors = {"saliency": {"max_f": 0.125, "max_miou": 0.25}}
    report = replace(INITIAL[1].reports[0], floors=floors)
    record(recorder(tmp_path), INITIAL[0], replace(INITIAL[1], reports=[report]), *FIRST_ROUND)
    rows = whole_table(tmp_path, "metrics").query("stage == 'floor'")
    columns = ["round", "client", "task", "split", "metric", "value", "headline"]
    assert list(rows[columns].itertuples(index=False, name=None)) == [
        (0, FIRST, "saliency", "val", "max_f", 0.125, False),
        (0, FIRST, "saliency", "val", "max_miou", 0.25, True),
    ]


def test_rows_say_what_tasks_are_judged_by_and_the_setting(tmp_path: Path) -> None:
    """The caller gave saliency's headline metric; human_parts has none."""
    record(recorder(tmp_path), *FIRST_ROUND)
    metrics = whole_table(tmp_path, "metrics")
    assert set(metrics["setting"]) == {"abc"}
    assert list(metrics[["task", "metric", "headline", "higher_is_better"]].itertuples(index=False, name=None)) == [
        ("saliency", "loss", False, None),
        ("saliency", "max_miou", True, True),
        ("human_parts+saliency", "steps", False, None),
        ("human_parts", "miou", False, None),
        ("saliency", "max_f", False, None),
        ("saliency", "max_miou", True, True),
    ]


def test_costs_of_a_round_by_hand(tmp_path: Path) -> None:
    record(recorder(tmp_path), *INITIAL, *FIRST_ROUND)
    assert list(whole_table(tmp_path, "rounds").itertuples(index=False, name=None)) == [
        (RUN.run_id, 0, 0.0, 0.0, 0.0, 0, 0, 0),
        (RUN.run_id, 1, 1.0, 0.25, 0.5, 1000, 2000, 500),  # the largest process's memory
    ]


def test_a_round_of_nobody_has_no_memory(tmp_path: Path) -> None:
    recorder(tmp_path).record(Trained(2, [], Diagnostics(), {"fit": 0.5}, 0, 0, is_evaluated=False))
    row = whole_table(tmp_path, "rounds").iloc[0]
    assert (row["fit_seconds"], row["evaluate_seconds"], row["peak_memory_bytes"]) == (0.5, 0.0, 0)


def test_correlations_say_whose_encoder_went_where(tmp_path: Path) -> None:
    recorder(tmp_path).record(TRAINED)
    found = whole_table(tmp_path, "correlations")
    assert list(found[["group", "other", "correlation", "fused"]].itertuples(index=False, name=None)) == [
        ("human_parts+saliency", "saliency", 0.25, True),  # saliency's encoder into human_parts+saliency's
        ("saliency", "human_parts+saliency", -0.5, False),
    ]


def test_fusing_by_block(tmp_path: Path) -> None:
    recorder(tmp_path).record(TRAINED)
    assert read_whole(folder_at(str(tmp_path)), "fusing.parquet", FUSING).rows.to_pylist() == [
        dict(zip(FUSING, (RUN.run_id, 1, "saliency", "saliency", "encoder", 0.5, 2.0, 1.5), strict=True)),
        dict(zip(FUSING, (RUN.run_id, 1, "saliency", "x", "encoder", -0.25, None, None), strict=True)),
    ]


def test_a_run_of_before_fusing_was_measured_goes_on_with_it(tmp_path: Path) -> None:
    record(recorder(tmp_path), *INITIAL, *FIRST_ROUND)
    for path in tmp_path.glob("fusing*.parquet"):
        path.unlink()
    resumed = recorder(tmp_path)
    assert resumed.resume(last_round=1)
    record(resumed, replace(TRAINED, round=2), replace(EVALUATED, round=2))
    resumed.finish()
    assert whole_table(tmp_path, "fusing")["round"].tolist() == [2, 2]
    assert whole_table(tmp_path, "correlations")["round"].tolist() == [1, 1, 2, 2]


def test_resume_takes_up_all_tables(tmp_path: Path) -> None:
    names = ("metrics", "rounds", "correlations", "fusing")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for folder in (straight, broken):
        folder.mkdir()
    undisturbed = recorder(straight)
    record(undisturbed, *INITIAL, *FIRST_ROUND)
    record(recorder(broken), *INITIAL, *FIRST_ROUND)
    resumed = recorder(broken)
    assert resumed.resume(last_round=0)  # the checkpoint of round 1 was not written any more
    record(resumed, *FIRST_ROUND)
    resumed.finish()
    undisturbed.finish()
    for name in names:
        assert open_table(straight / f"{name}.parquet", name, {}).config == CONFIG
        assert (straight / f"{name}.parquet").read_bytes() == (broken / f"{name}.parquet").read_bytes()
    assert sorted(path.name for path in broken.iterdir()) == sorted(f"{name}.parquet" for name in names)


def test_a_round_whose_evaluation_was_not_written_is_not_evaluated(tmp_path: Path) -> None:
    record(recorder(tmp_path), *INITIAL, TRAINED)
    resumed = recorder(tmp_path)
    assert not resumed.resume(last_round=1)
    assert not is_evaluated(RunFolder(tmp_path), 1)
    resumed.record(EVALUATED)
    assert is_evaluated(RunFolder(tmp_path), 1)
    assert whole_table(tmp_path, "rounds")["evaluate_seconds"].tolist() == [0.0, 0.5]


def test_a_run_of_version_2_goes_on_with_tables_of_version_3(tmp_path: Path) -> None:
    """Rows of before get the columns that they lack: the built-in headlines, human_parts' included, and the setting
    that is in the run's id."""
    run = replace(RUN, run_id="tiny-mfed-0123abcd-ff-seed4")
    begun = recorder(tmp_path, run)
    record(begun, *INITIAL, *FIRST_ROUND)
    begun.finish()  # that version had one file for a table at any time
    rewrite_as_version_2(tmp_path)
    resumed = recorder(tmp_path, run)
    resumed.resume(last_round=1)
    record(resumed, replace(TRAINED, round=2), replace(EVALUATED, round=2))
    resumed.finish()
    stored = open_table(tmp_path / "metrics.parquet", "metrics", METRICS)
    assert (stored.version, stored.config) == (3, CONFIG)
    kept = ("round", "task", "metric", "headline", "higher_is_better", "setting")
    assert [tuple(row[name] for name in kept) for row in stored.rows.to_pylist() if row["split"] == "val"] == [
        (0, "saliency", "max_miou", True, True, "0123abcd"),
        (1, "saliency", "max_miou", True, True, "0123abcd"),
        (1, "human_parts", "miou", True, True, "0123abcd"),
        (1, "saliency", "max_f", False, None, "0123abcd"),
        (1, "saliency", "max_miou", True, True, "0123abcd"),
        (2, "saliency", "max_miou", True, True, "abc"),
        (2, "human_parts", "miou", False, None, "abc"),
        (2, "saliency", "max_f", False, None, "abc"),
        (2, "saliency", "max_miou", True, True, "abc"),
    ]


def test_a_kill_between_the_tables_leaves_a_round_that_is_evaluated_again(tmp_path: Path) -> None:
    """The metrics, which say that a round is evaluated, are written last: here they cannot be."""
    record(recorder(tmp_path), *INITIAL, TRAINED)
    (tmp_path / ".metrics.parquet.tmp").mkdir()
    killed = recorder(tmp_path)
    killed.resume(last_round=1)
    with pytest.raises(OSError, match=r"\.metrics\.parquet\.tmp"):
        killed.record(EVALUATED)
    (tmp_path / ".metrics.parquet.tmp").rmdir()
    assert whole_table(tmp_path, "rounds")["evaluate_seconds"].tolist() == [0.0, 0.5]
    resumed = recorder(tmp_path)
    assert not resumed.resume(last_round=1)
    record(resumed, EVALUATED)
    assert is_evaluated(RunFolder(tmp_path), 1)
    assert whole_table(tmp_path, "rounds")["evaluate_seconds"].tolist() == [0.0, 0.5]
