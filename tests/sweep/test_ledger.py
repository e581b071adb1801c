"""What a sweep's folder keeps of its trials."""

from pathlib import Path

import pytest

from mfed_ray.errors import RunFolderError
from mfed_ray.sweep.ledger import Entry, Ledger, State

POINT = {"seed": 0}


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize("then", ["running", "failed", "stopped", "finished"])
def test_a_closed_trial_stays_as_it_is_when_it_is_told_again(tmp_path: Path, state: State, then: State) -> None:
    """A second kill, while a resumed sweep tells its schedulers what it knew, must not open it."""
    ledger = Ledger(str(tmp_path))
    closed = Entry(POINT, "folder", state, 3, 0.5)
    ledger.note(Entry(POINT, "folder"))
    assert ledger.note(closed) == closed
    assert ledger.note(Entry(POINT, "folder", then, 1)) == closed
    assert list(Ledger(str(tmp_path))) == [closed]


def test_an_open_trial_takes_what_comes(tmp_path: Path) -> None:
    ledger = Ledger(f"file://{tmp_path}/sweep")
    for state in ("running", "failed", "running"):
        ledger.note(Entry(POINT, "folder", state, 1, message="why" if state == "failed" else None))
    (entry,) = Ledger(str(tmp_path / "sweep"))
    assert entry == Entry(POINT, "folder", "running", 1)


def test_a_search_that_came_to_its_end_is_remembered(tmp_path: Path) -> None:
    assert not Ledger(str(tmp_path)).has_searched("a")
    Ledger(str(tmp_path)).end_search("a")
    assert Ledger(str(tmp_path)).has_searched("a")
    assert not Ledger(str(tmp_path)).has_searched("b")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"searched": null, "trials": [1]}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "trials.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"trials.json: cannot be read as a sweep's trials \("):
        Ledger(str(tmp_path))
