"""Trainers put together from an experiment."""

from collections.abc import Callable

import pytest
import torch

from mfed_ray.experiment import Experiment
from mfed_ray.experiment.clients import make_clients
from mfed_ray.experiment.trainers import TrainerFactory
from mfed_ray.messages import ClientSpec
from mfed_ray.metrics.edges import EdgeDetection

MakeExperiment = Callable[..., Experiment]


def test_a_trainer_has_the_experiments_settings(tiny: MakeExperiment) -> None:
    experiment = tiny(rounds=9, seed=4, local={"momentum": 0.5}, evaluation={"batch_size": 3})
    trainer = TrainerFactory(experiment)(make_clients(experiment)[0])
    assert trainer.settings is experiment.local
    assert (trainer.rounds, trainer.seed, trainer.evaluation_batch_size) == (9, 4, 3)


def test_a_shard_takes_every_setting(tiny: MakeExperiment) -> None:
    local = {"epochs": 3, "batch_size": 5, "max_steps": 7, "loading_workers": 1}
    experiment = tiny(seed=4, local=local, images={"short_side": 48})
    spec = make_clients(experiment)[2]
    (shard,) = TrainerFactory(experiment)(spec).shards
    assert (shard.source,) == spec.sources
    assert [task.name for task in shard.tasks] == ["saliency"]
    assert (shard.epochs, shard.batch_size, shard.max_steps, shard.workers, shard.seed) == (3, 5, 7, 1, 4)
    assert shard.augmentation is experiment.augmentation
    assert shard.input_size is experiment.images


def test_a_client_of_several_sources_trains_on_each_for_its_own_tasks(tiny: MakeExperiment) -> None:
    experiment = tiny()
    one, _, other, _ = make_clients(experiment)
    pooled = ClientSpec("pool", ("saliency", "semantic_segmentation"), one.sources + other.sources, ())
    trainer = TrainerFactory(experiment)(pooled)
    assert tuple(shard.source for shard in trainer.shards) == one.sources + other.sources
    assert [[task.name for task in shard.tasks] for shard in trainer.shards] == [
        ["semantic_segmentation"],
        ["saliency"],
    ]
    assert sorted(task.name for task in trainer.tasks) == ["saliency", "semantic_segmentation"]
    assert pooled.examples == one.examples + other.examples == 8


def test_trainers_of_one_group_share_a_model_and_all_share_a_dataset(tiny: MakeExperiment) -> None:
    experiment = tiny()
    factory = TrainerFactory(experiment)
    first, second, saliency, _ = (factory(client) for client in make_clients(experiment))
    assert first.model is second.model
    assert first.model is not saliency.model
    assert first.shards[0].dataset is saliency.shards[0].dataset
    assert first.spec.train_ids != second.spec.train_ids
    assert [task.name for task in saliency.tasks] == ["saliency"]
    assert saliency.model.device == torch.device("cpu")


@pytest.mark.parametrize("chosen", ["auto", "cpu"])
def test_a_client_without_a_gpu_share_computes_on_the_cpu(tiny: MakeExperiment, chosen: str) -> None:
    experiment = tiny(runtime={"device": chosen, "gpus_per_client": 0})
    trainer = TrainerFactory(experiment)(make_clients(experiment)[0])
    assert trainer.model.device == torch.device("cpu")
    assert {value.device.type for value in trainer.model.module.state_dict().values()} == {"cpu"}


def test_edges_are_measured_by_the_configured_protocol(tiny: MakeExperiment) -> None:
    clients = [{"tasks": ["edge_detection"], "data": "scenes"}]
    experiment = tiny(clients=clients, evaluation={"edges": {"max_distance": 0.011, "thresholds": 9, "nms": True}})
    (task,) = TrainerFactory(experiment)(make_clients(experiment)[0]).tasks
    metric = task.make_metric()
    assert isinstance(metric, EdgeDetection)
    assert metric.protocol == ("BSDS, 9 thresholds, non-maximum suppression and thinning, within 0.011 of the diagonal")
