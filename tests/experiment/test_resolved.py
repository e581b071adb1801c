"""What a run writes as its config.yaml: run ids digest it, and a run resumes only where it is the same."""

from pathlib import Path

import pytest
import yaml

from mfed_ray.experiment import load_experiment

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
RESOLVED = Path(__file__).with_name("resolved")


@pytest.mark.parametrize("name", ["quickstart", "coco/mfed_resnet50"])
def test_keys_values_and_their_order_are_those_of_runs_made_before(name: str) -> None:
    """A change here means that old run folders no longer resume: then say so in CHANGELOG.md."""
    stored = (RESOLVED / f"{name.replace('/', '_')}.yaml").read_text()
    assert yaml.safe_dump(load_experiment(EXPERIMENTS / f"{name}.yaml").resolved(), sort_keys=False) == stored
