"""What a run writes as its config.yaml: run ids digest it, and a run resumes only where it says the same."""

from pathlib import Path

import pytest
import yaml

from mfed_ray.experiment import load_experiment
from mfed_ray.experiment.identity import identity

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
RESOLVED = Path(__file__).with_name("resolved")


@pytest.mark.parametrize("name", ["quickstart", "coco/mfed_resnet50"])
def test_keys_values_and_their_order_are_those_of_runs_made_before(name: str) -> None:
    """A key that is added here has to be one of ``identity``'s later ones, or old run folders no longer resume."""
    stored = (RESOLVED / f"{name.replace('/', '_')}.yaml").read_text()
    assert yaml.safe_dump(load_experiment(EXPERIMENTS / f"{name}.yaml").resolved(), sort_keys=False) == stored


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("quickstart", "quickstart-mfed-1ac8364f-b2800807-seed0"),
        ("coco/mfed_resnet50", "coco_resnet50-mfed-25406b9a-b2800807-seed0"),
    ],
)
def test_run_ids_are_those_of_runs_made_before(name: str, run_id: str) -> None:
    assert identity(load_experiment(EXPERIMENTS / f"{name}.yaml")).run_id == run_id


def test_keys_that_came_later_count_where_they_are_set() -> None:
    def run_id(*overrides: str) -> str:
        return identity(load_experiment(EXPERIMENTS / "quickstart.yaml", overrides)).run_id

    assert run_id("model.width=64") == run_id()
    assert run_id("model.width=32").rsplit("-", 3)[1] != run_id().rsplit("-", 3)[1]
    assert run_id("local.max_update_norm=null") == run_id()
    assert run_id("local.max_update_norm=2.0").rsplit("-", 3)[1] != run_id().rsplit("-", 3)[1]
    assert run_id("clients.2.decoder_width=null") == run_id()
    assert run_id("clients.2.decoder_width=32").rsplit("-", 3)[1] != run_id().rsplit("-", 3)[1]
    judged = ("algorithm.correlation_threshold=judged", "algorithm.judging.until=4")
    assert run_id(*judged).rsplit("-", 3)[2] != run_id(judged[0]).rsplit("-", 3)[2]
