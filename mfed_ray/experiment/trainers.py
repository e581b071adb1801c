"""Trainers of an experiment: a client's model, data and settings put together in the process where it trains."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from mfed_ray.data.sample import Dataset
from mfed_ray.errors import PlacementError
from mfed_ray.experiment.clients import open_dataset
from mfed_ray.experiment.models import make_model
from mfed_ray.experiment.schema import Experiment
from mfed_ray.loaded_model import LoadedModel, float_values
from mfed_ray.loading import Shard
from mfed_ray.messages import ClientSpec, Source
from mfed_ray.models.normalisation import private_names
from mfed_ray.tasks import Task, get_task
from mfed_ray.training import Trainer


@dataclass
class TrainerFactory:
    """Builds clients' trainers; one per process. Clients of one task group take turns with one model."""

    experiment: Experiment
    datasets: dict[str, Dataset] = field(default_factory=dict)
    models: dict[str, LoadedModel] = field(default_factory=dict)

    def __call__(self, client: ClientSpec) -> Trainer:
        """The client's trainer. It shares its model with others: ``start`` it before each use."""
        experiment = self.experiment
        return Trainer(
            client,
            self.model(client),
            [self._shard(source) for source in client.sources],
            [self._task(task) for task in client.tasks],
            experiment.local,
            experiment.rounds,
            experiment.seed,
            experiment.evaluation.batch_size,
        )

    def _task(self, name: str) -> Task:
        """The task, measured by the configured protocol."""
        task = get_task(name)
        if name != "edge_detection":
            return task
        from mfed_ray.metrics.edges import EdgeDetection

        return replace(task, make_metric=partial(EdgeDetection, **self.experiment.evaluation.edges.model_dump()))

    def _shard(self, source: Source) -> Shard:
        """The source's images as batches. Its dataset is opened once in a process."""
        experiment, local = self.experiment, self.experiment.local
        if source.dataset not in self.datasets:
            self.datasets[source.dataset] = open_dataset(experiment.data[source.dataset])
        return Shard(
            source,
            self.datasets[source.dataset],
            [get_task(task) for task in source.tasks],
            experiment.augmentation,
            local.epochs,
            local.batch_size,
            local.max_steps,
            local.loading_workers,
            experiment.seed,
            experiment.images,
        )

    def model(self, client: ClientSpec) -> LoadedModel:
        """The model of all clients of the client's task group, on the experiment's device."""
        if client.group not in self.models:
            device = self._device()
            module = make_model(self.experiment, client.tasks, client.model).to(device)
            private = private_names(module, self.experiment.model.normalisation)
            self.models[client.group] = LoadedModel(module, float_values(module), private, device)
        return self.models[client.group]

    def _device(self) -> torch.device:
        """``runtime.device``; `auto` is the GPU for clients with a share of one, where torch sees it."""
        chosen = self.experiment.runtime.device
        if chosen == "cuda" and not torch.cuda.is_available():
            raise PlacementError("runtime.device: cuda, but torch sees no GPU in this process; allowed: cpu, auto")
        if chosen == "auto":
            chosen = "cuda" if self.experiment.runtime.gpus_per_client and torch.cuda.is_available() else "cpu"
        return torch.device(chosen)
