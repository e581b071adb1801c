"""``mfed results``: the table on standard output, what is wrong with runs on standard error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mfed_ray.cli import main


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["results", *map(str, arguments)])
    return int(stop.value.code or 0), *capsys.readouterr()


def test_problems_go_to_standard_error(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("x-mfed-s-aa-seed0", value=0.25)
    bad = make_run("bad", until=1)
    code, out, errors = command(capsys, tmp_path, tmp_path / "missing", "--format", "json")
    assert code == 0
    assert errors == (
        f"mfed: warning: {tmp_path}/missing: no such folder; expected a run's folder, or one with runs below it\n"
        f"mfed: warning: {bad}: 1 of 2 rounds so far\n"
    )
    assert [(row["seeds"], row["seeds note"], row["saliency max_miou mean"]) for row in json.loads(out)] == [
        (1, "1 stopped at 1 of 2", 0.25)
    ]


def test_many_problems_are_shortened(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(14):
        make_run(f"x-mfed-s-aa-seed{number}", seed=number, until=1 + (number == 0))
    code, out, errors = command(capsys, tmp_path)
    assert code == 0
    assert "1 (13 stopped at 1 of 2)" in out
    assert errors.splitlines()[9:] == [
        f"mfed: warning: {tmp_path}/x-mfed-s-aa-seed6: 1 of 2 rounds so far",  # 1, 10, 11, 12, 13, 2, 3, 4, 5, 6
        "mfed: warning: and 3 more",
    ]


def test_a_uri_is_not_taken_for_a_path(
    tmp_path: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("x-mfed-s-aa-seed0")
    assert command(capsys, f"file://{tmp_path}")[::2] == (0, "")
    code, _, errors = command(capsys, "bogus://bucket//x")
    assert (code, errors.partition(":")[0]) == (2, "mfed")
    assert "bogus://bucket//x: cannot be reached" in errors
