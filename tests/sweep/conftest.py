"""A sweep of the tiny federation, which each test makes its own."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mfed_ray.experiment.loading import merge
from mfed_ray.sweep import Sweep, parse_sweep
from mfed_ray.sweep.run import run
from mfed_ray.sweep.tuning import TrialEvent

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def tiny_sweep(tiny_tree: dict[str, Any]) -> MakeSweep:
    """``tiny_sweep(space, experiment=tree, ...)``: by default one round of FedAvg, each trial one process."""
    base = merge(copy.deepcopy(tiny_tree), {"rounds": 1, "algorithm": {"name": "fedavg"}})

    def make(space: dict[str, Any], experiment: dict[str, Any] | None = None, **keys: Any) -> Sweep:
        return parse_sweep({"name": "tiny", "experiment": merge(base, experiment or {}), "space": space, **keys})

    return make


@pytest.fixture(scope="session")
def tiny_file(tiny_tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny federation as an experiment's file."""
    path = tmp_path_factory.mktemp("experiments") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_tree), encoding="utf-8")
    return path


def run_all(sweep: Sweep, place: Path | str) -> list[TrialEvent]:
    """Run the sweep on the tests' Ray; its events."""
    events: list[TrialEvent] = []
    run(sweep, place, None, lambda _: None, events.append)
    return events
