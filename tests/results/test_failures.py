"""The table of failures: a row as soon as it happened, whole rows only, who was dropped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.federation.events import Failure
from mfed_ray.results.failures import absent, append, read_failures
from mfed_ray.results.find import folder_at
from mfed_ray.results.loading import load
from mfed_ray.results.tables import FAILURES

MakeRun = Callable[..., Path]
ROW = '{"run_id": "r", "time": "t", "round": %s, "phase": "fit", "client": "a", "error": "e", "outcome": %s}'
DROPPED = Failure(3, "fit", ("saliency-0", "saliency-1"), "image 7\nis broken", "dropped")
RETRIED = Failure(3, "evaluate", ("saliency-0",), "its process died", "retried")


def rows(folder: Path) -> list[tuple[Any, ...]]:
    table = read_failures(folder_at(str(folder))).drop(["time"])
    return [tuple(row.values()) for row in table.to_pylist()]


def test_a_row_for_each_client(tmp_path: Path) -> None:
    assert rows(tmp_path) == []
    append(tmp_path, "one", RETRIED)
    append(tmp_path, "one", DROPPED)
    assert rows(tmp_path) == [
        ("one", 3, "evaluate", "saliency-0", "its process died", "retried"),
        ("one", 3, "fit", "saliency-0", "image 7\nis broken", "dropped"),
        ("one", 3, "fit", "saliency-1", "image 7\nis broken", "dropped"),
    ]
    (times,) = {json.loads(line)["time"][-6:] for line in (tmp_path / "failures.jsonl").read_text().splitlines()}
    assert times == "+00:00"


def test_who_was_dropped_by_phase_and_round(tmp_path: Path) -> None:
    assert absent(tmp_path) == {}
    for event in (RETRIED, DROPPED, Failure(4, "evaluate", ("normals-0",), "late", "dropped")):
        append(tmp_path, "one", event)
    append(tmp_path, "one", Failure(4, "fit", ("normals-0",), "late", "stopped"))
    assert absent(tmp_path) == {("fit", 3): {"saliency-0", "saliency-1"}, ("evaluate", 4): {"normals-0"}}


def test_a_line_that_a_kill_cut_off_does_not_count_and_makes_way(tmp_path: Path) -> None:
    """At every byte of the last line."""
    append(tmp_path, "one", RETRIED)
    path = tmp_path / "failures.jsonl"
    whole = path.read_bytes()
    append(tmp_path, "one", DROPPED)
    for length in range(len(whole), path.stat().st_size, 29):
        append_at = path.read_bytes()[:length]
        path.write_bytes(append_at)
        assert rows(tmp_path)[0][2] == "evaluate"
        append(tmp_path, "one", DROPPED)
        assert [row[2] for row in rows(tmp_path)][-2:] == ["fit", "fit"]
        assert all(json.loads(line).keys() == FAILURES.keys() for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, r"failures\.jsonl:1: no JSON \(its lists and objects lie too deep in each other\)"),
        (ROW % (2**70, '"dropped"'), r"failures\.jsonl: cannot be read \("),
        (ROW % (1, r'"\ud800"'), r"failures\.jsonl: cannot be read \("),
        ("{", r"failures\.jsonl:1: no JSON \(.*\); expected a row of the table$"),
        ("[]", r":1: expected an object with"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "failures.jsonl").write_text(line + "\n")
    with pytest.raises(RunFolderError, match=message):
        absent(tmp_path)


def test_failures_are_loaded_and_who_was_left_out_is_told(make_run: MakeRun) -> None:
    folder = make_run("one", until=2)
    append(folder, "one", RETRIED)
    assert load(folder).problems == []
    append(folder, "one", DROPPED)
    results = load(folder)
    assert results.problems == [
        f"{folder}: clients were left out after they failed: saliency-0 (fit of round 3), saliency-1 (fit of round 3)"
    ]
    assert list(results.failures.columns) == [*FAILURES, "experiment", "algorithm", "seed", "rounds", "variant"]
    assert results.failures["outcome"].tolist() == ["retried", "dropped", "dropped"]
    (folder / "failures.jsonl").write_text("{\n")
    results = load(folder)
    assert len(results.failures) == 0
    assert len(results.problems) == 1
