"""Fixtures shared by every test: real data, one small generated data set, one Ray for each test process."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from mfed_ray.annotations import Detections, Objects, Prediction, Segments, Target
from mfed_ray.data.generated import generate_coco, generate_pascal_context
from mfed_ray.experiment import Experiment, parse_experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.federation import make_simulation
from mfed_ray.experiment.loading import merge
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.labels import VOID
from mfed_ray.loaded_model import LoadedModel, float_values
from mfed_ray.messages import ClientSpec, Params, State
from mfed_ray.runtime.serial import SerialBackend
from mfed_ray.runtime.worker import Worker
from tests.rounds import Round, whole

MakeExperiment = Callable[..., Experiment]
Rounds = list[tuple[Round, Checkpoint]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found: {folder / 'data'}")
    return folder


def _perfect(task: str, target: Target) -> Prediction:
    if isinstance(target, Objects):
        return _perfect_detections(target)
    if isinstance(target, Segments):
        assert target.crowd is not None
        told = ~target.crowd
        kept = np.where(np.isin(target.map, target.ids[told]), target.map, 0)
        return Segments(kept, target.ids[told], target.labels[told])
    if task == "edge_detection":
        return target[..., 0].astype(np.float32)
    if task == "stuff_segmentation":
        return np.where(target == VOID, 0, target).astype(np.uint8)  # a prediction has no void
    return (target == 1).astype(np.float32) if task == "saliency" else target


def _perfect_detections(target: Objects) -> Detections:
    """All but the crowds. People without a labelled keypoint, whose keypoints do not count, come last."""
    scores, keypoints = np.ones(len(target.labels), np.float32), target.keypoints
    if keypoints is not None:
        unlabelled = (keypoints[..., 2] == 0).all(axis=1)
        scores[unlabelled] = 0.5
        middle = (target.boxes[:, None, :2] + target.boxes[:, None, 2:]) / 2
        guess = np.concatenate([np.broadcast_to(middle, (len(middle), 17, 2)), np.ones((len(middle), 17, 1))], axis=2)
        keypoints = np.where(unlabelled[:, None, None], guess, keypoints).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    told = order[~target.crowd[order]]
    masks = None if target.masks is None else target.masks[told]
    keypoints = None if keypoints is None else keypoints[told]
    return Detections(target.size, target.boxes[told], target.labels[told], scores[told], masks, keypoints)


@pytest.fixture(scope="session")
def perfect() -> Callable[[str, Target], Prediction]:
    """``perfect(task, target)``: the prediction that says just what the target says."""
    return _perfect


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
            "width": 16,
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
def coco_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 generated images of 48 px in COCO's layout: 8 to train on, 8 held out."""
    root = tmp_path_factory.mktemp("data") / "coco"
    generate_coco(root, images=16, size=48, seed=0, val_fraction=1 / 2)
    return root


@pytest.fixture(scope="session")
def coco_tree(tiny_tree: dict[str, Any], coco_scenes: Path) -> dict[str, Any]:
    """A federation of the four COCO tasks, with the smallest heads; two clients segment instances."""
    tasks = ("instance_segmentation", "keypoint_detection", "panoptic_segmentation", "stuff_segmentation")
    return merge(
        tiny_tree,
        {
            "name": "tiny_coco",
            "data": {"scenes": {"format": "coco", "root": str(coco_scenes)}},
            "clients": [
                {"tasks": [task], "data": "scenes", "count": 2 if task == "instance_segmentation" else 1}
                for task in tasks
            ],
            "partition": {"across": "task"},
            "model": {
                "decoder_width": 8,
                "fpn_width": 8,
                "anchor_size": 8,
                "box_samples": 16,
                "score_threshold": 0.01,
                "max_detections": 20,
            },
            "evaluation": {"max_images": 1},
            "augmentation": {"crop_size": 48},
            "images": {"short_side": 56},
        },
    )


@pytest.fixture(scope="session")
def tiny_coco(coco_tree: dict[str, Any]) -> MakeExperiment:
    """As ``tiny``, for the four COCO tasks."""

    def make(**sections: Any) -> Experiment:
        return parse_experiment(merge(copy.deepcopy(coco_tree), sections))

    return make


@pytest.fixture(params=["tiny", "tiny_coco"])
def any_tiny(request: pytest.FixtureRequest) -> MakeExperiment:
    """The one and the other."""
    make: MakeExperiment = request.getfixturevalue(request.param)
    return make


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests of a process: two CPUs, and two GPUs that exist in name only."""
    ray.init(
        address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


@lru_cache(maxsize=4)
def _models(model: str, structures: tuple[Any, ...], seed: int) -> dict[str, LoadedModel]:
    """Built once for all runs that have them, since a trainer sets all that its model holds before each use."""
    del model, structures, seed
    return {}


def _factory(experiment: Experiment) -> TrainerFactory:
    structures = tuple((one.tasks, one.encoder, one.decoder_width) for one in experiment.clients)
    return TrainerFactory(experiment, models=_models(experiment.model.model_dump_json(), structures, experiment.seed))


def _serially(
    experiment: Experiment,
    clients: Sequence[ClientSpec] | None = None,
    *,
    until: int | None = None,
    resume: Checkpoint | None = None,
) -> Rounds:
    clients = make_clients(experiment) if clients is None else clients
    simulation = make_simulation(experiment, clients)
    by_name = {client.name: client for client in simulation.everybody}
    backend = SerialBackend(Worker(by_name, experiment.algorithm, _factory(experiment), threads=1))
    return whole(simulation.run(backend, resume, evaluated=resume is not None), until)


@pytest.fixture(scope="session")
def serially() -> Callable[..., Rounds]:
    """``serially(experiment, clients, until=round, resume=checkpoint)``: reports and checkpoints of a federation run in
    this process, round 0 first, without a folder."""
    return _serially


def _deployed(experiment: Experiment, rounds: Rounds) -> dict[str, Params]:
    torch.set_num_threads(1)
    factory, models = _factory(experiment), dict[str, Params]()
    report, last = rounds[-1]
    for client in make_clients(experiment):
        trainer = factory(client)
        load = experiment.algorithm.instruct(last.server, client, report.round + 1).load
        trainer.start(last.clients.get(client.name, State()), *load)
        models[client.name] = float_values(trainer.model.module)
    return models


@pytest.fixture(scope="session")
def deployed() -> Callable[[Experiment, Rounds], dict[str, Params]]:
    """``deployed(experiment, rounds)``: each client's whole model as the round after the last would start it."""
    return _deployed
