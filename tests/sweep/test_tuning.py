"""What Tune is set up with, of what a sweep's folder already holds."""

from pathlib import Path
from typing import Any

from mfed_ray.sweep.ledger import Entry, Ledger
from mfed_ray.sweep.planning import plan
from mfed_ray.sweep.tuning import Tuning
from tests.sweep.conftest import MakeSweep


def test_optuna_goes_on_from_the_points_that_lie_in_the_space_of_now(tiny_sweep: MakeSweep, tmp_path: Path) -> None:
    space = {"seed": {"choice": [1, 2]}, "local.learning_rate": {"uniform": [1e-3, 1e-2]}}
    keys: dict[str, Any] = {"objective": "saliency", "search": {"method": "optuna", "samples": 3}}
    sweep, ledger = tiny_sweep(space, **keys), Ledger(str(tmp_path))
    inside = {"seed": 1, "local.learning_rate": 1e-2}
    others: list[dict[str, Any]] = [
        {"seed": 0, "local.learning_rate": 2e-3},  # not one of the choices
        {"seed": 1, "local.learning_rate": 2e-2},  # out of the range
        {"seed": 2},  # of a space with fewer keys
        {"algorithm.name": "local", "seed": 1},  # a baseline
    ]
    for point in (*others, inside):
        ledger.note(Entry(point, "folder", "finished", 1))
    tuning = Tuning(sweep, plan(sweep), str(tmp_path), tmp_path, ledger, lambda _: None)
    assert tuning.points == [inside]
    assert tuning.total == 3
