"""Fixtures shared by every test: real data, one small generated data set, one Ray."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from mfed_ray.data.generated import generate_pascal_context
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.loading import merge

MakeExperiment = Callable[..., Experiment]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found: {folder / 'data'}")
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 generated images of 32 px: 16 to train on, 8 held out."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_pascal_context(root, images=24, size=32, seed=0, val_fraction=1 / 3)
    return root


@pytest.fixture(scope="session")
def tiny_tree(scenes: Path) -> dict[str, Any]:
    """A federation of four clients and three tasks that trains a round in about a second."""
    return {
        "name": "tiny",
        "seed": 0,
        "rounds": 2,
        "algorithm": {"name": "mfed"},
        "data": {"scenes": {"format": "pascal_context", "root": str(scenes)}},
        "clients": [
            {"tasks": ["semantic_segmentation"], "data": "scenes", "count": 2},
            {"tasks": ["saliency"], "data": "scenes"},
            {"tasks": ["surface_normals"], "data": "scenes"},
        ],
        "model": {
            "encoder": "resnet10",
            "output_stride": 32,
            "normalisation": "group",
            "decoder": "light",
            "decoder_width": 8,
        },
        "augmentation": {"crop_size": 32, "scale": [0.8, 1.25]},
        "local": {"batch_size": 2, "max_steps": 2, "learning_rate": 1e-3},
        "evaluation": {"max_images": 2, "stages": ["before_aggregation", "after_aggregation"]},
        "runtime": {"backend": "serial", "cpus_per_client": 0.5},
    }


@pytest.fixture(scope="session")
def tiny(tiny_tree: dict[str, Any]) -> MakeExperiment:
    """``tiny(algorithm={...}, ...)``: the tiny experiment with sections merged over it."""

    def make(**sections: Any) -> Experiment:
        return parse_experiment(merge(copy.deepcopy(tiny_tree), sections))

    return make


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests: two CPUs, and two GPUs that exist in name only."""
    ray.init(
        address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()
