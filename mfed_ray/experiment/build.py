"""From a checked configuration to the parts that run: datasets, shards, models, trainers, the simulation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mfed_ray.data.coco import Coco
from mfed_ray.data.generated import LAYOUTS
from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.data.sample import Dataset
from mfed_ray.data.transforms import to_tensor
from mfed_ray.errors import ConfigError, DataError, PlacementError
from mfed_ray.evaluation import AFTER_AGGREGATION, HELD_OUT, TRAIN
from mfed_ray.experiment.schema import Clients, Data, Experiment, GeneratedData
from mfed_ray.federation.simulation import Simulation
from mfed_ray.loading import Shard, steps_of_round
from mfed_ray.messages import ClientSpec, Params, Source
from mfed_ray.models.contract import Decoder, DecoderSettings, Encoder
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.multitask import MultiTaskModel, build_model
from mfed_ray.models.normalisation import private_names
from mfed_ray.models.pyramid import PyramidEncoder, detector_policy
from mfed_ray.params import encoder_of
from mfed_ray.seeds import generator
from mfed_ray.tasks import get_task
from mfed_ray.training import LoadedModel, LocalTraining, Trainer, float_values

PROBE_SIZE = 224
"""Pixels; the server has no GPU share, and an encoder's features of ImageNet's size tell tasks apart as well."""


def open_dataset(data: Data, processes: int = 1, on_progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The dataset, generated first where it is to be and is not there yet. Raises DataError."""
    layout: str = data.format
    if isinstance(data, GeneratedData):
        layout = data.layout
        LAYOUTS[layout](data.root, data.images, data.size, data.seed, data.val_fraction, on_progress, processes)
    return Coco(data.root) if layout == "coco" else PascalContext(data.root)


def open_datasets(
    experiment: Experiment, processes: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, Dataset]:
    """Every dataset of the experiment, by name. Raises DataError that names the key."""
    datasets = {}
    for name, data in experiment.data.items():
        try:
            datasets[name] = open_dataset(data, processes, on_progress)
        except DataError as error:
            raise DataError(f"data.{name}: {error}") from error
    return datasets


def make_clients(experiment: Experiment) -> list[ClientSpec]:
    """Every client with its shard. Raises DataError for an empty shard, or a task that the data lacks."""
    datasets = open_datasets(experiment)
    _check_tasks(experiment, datasets)
    named = clients_by_name(experiment)
    shards = _shards(experiment, datasets, list(named.values()))
    held_out = {clients: _held_out(experiment, datasets, clients) for clients in experiment.clients}
    specs = []
    for (name, clients), shard in zip(named.items(), shards, strict=True):
        usable = tuple(i for i in shard if _trainable(datasets[clients.data], i, clients.tasks))
        if not usable:
            raise DataError(
                f"client {name}: its shard of {len(shard)} images of data.{clients.data} has none with targets for "
                f"{', '.join(clients.tasks)}; give it more images or fewer clients"
            )
        specs.append(ClientSpec.of(name, clients.tasks, clients.data, usable, held_out[clients]))
    return specs


def _check_tasks(experiment: Experiment, datasets: Mapping[str, Dataset]) -> None:
    for index, clients in enumerate(experiment.clients):
        has = datasets[clients.data].tasks
        if lacking := sorted({*clients.tasks} - has):
            raise DataError(
                f"clients.{index}.tasks: data.{clients.data} has no task {', '.join(lacking)}, it has: "
                f"{', '.join(sorted(has))}"
            )


def clients_by_name(experiment: Experiment) -> dict[str, Clients]:
    """The entry of ``clients`` that each client comes from: its task group, a dash and its number in it, from 0."""
    seen: dict[str, int] = {}
    named = {}
    for one in (clients for clients in experiment.clients for _ in range(clients.count)):
        group = "+".join(one.tasks)
        seen[group] = seen.get(group, -1) + 1
        named[f"{group}-{seen[group]}"] = one
    return named


def _shards(experiment: Experiment, datasets: Mapping[str, Dataset], clients: Sequence[Clients]) -> list[list[str]]:
    """One list of image ids per client."""
    across_task = experiment.partition.across == "task"
    pools: dict[tuple[str, ...], list[int]] = {}
    for position, one in enumerate(clients):
        pools.setdefault((one.data, *(one.tasks if across_task else ())), []).append(position)
    shards: list[list[str]] = [[] for _ in clients]
    for (data, *tasks), positions in pools.items():
        dataset = datasets[data]
        image_ids = list(dataset.image_ids(TRAIN))
        labels = [dataset.dominant_class(i) for i in image_ids] if experiment.partition.scheme == "label" else None
        rng = generator(experiment.seed, "partition", data, *tasks)
        dealt = experiment.partition.build().shards(image_ids, len(positions), rng, labels)
        for position, shard in zip(positions, dealt, strict=True):
            shards[position] = shard
    return shards


def _held_out(experiment: Experiment, datasets: Mapping[str, Dataset], clients: Clients) -> tuple[str, ...]:
    dataset = datasets[clients.data]
    usable = (i for i in dataset.image_ids(HELD_OUT) if _usable(dataset, i, clients.tasks))
    ids = tuple(islice(usable, experiment.evaluation.max_images))
    if not ids:
        raise DataError(f"data.{clients.data}: its {HELD_OUT} split has no image for {', '.join(clients.tasks)}")
    return ids


def _trainable(dataset: Dataset, image_id: str, tasks: Sequence[str]) -> bool:
    return all(dataset.trainable(image_id, task) for task in tasks)


def _usable(dataset: Dataset, image_id: str, tasks: Sequence[str]) -> bool:
    return all(dataset.usable(image_id, task) for task in tasks)


def make_model(experiment: Experiment, tasks: Sequence[str]) -> MultiTaskModel:
    """A model with freshly initialised decoders for ``tasks``, on the CPU."""
    settings = experiment.model.decoder_settings()
    decoders = {task: partial(_make_decoder, task, settings) for task in tasks}
    return build_model(partial(_make_encoder, experiment, experiment.encoder_of(tasks)), decoders, experiment.seed)


def _make_decoder(task: str, settings: DecoderSettings, channels: Mapping[str, int]) -> Decoder:
    return get_task(task).make_decoder(channels, settings)


def _make_encoder(experiment: Experiment, name: str) -> Encoder:
    m = experiment.model
    encoder = make_encoder(name, m.output_stride, m.weights, m.normalisation)
    if m.fpn == "decoder":
        return encoder
    return PyramidEncoder(encoder, m.fpn_width, detector_policy(m.decoder_settings()))


def make_local_training(experiment: Experiment) -> LocalTraining:
    """How clients' models are optimized."""
    names = {field.name for field in fields(LocalTraining)} - {"rounds"}
    return LocalTraining(**experiment.local.model_dump(include=names), rounds=experiment.rounds)


@dataclass
class TrainerFactory:
    """Builds clients' trainers; one per process. Clients with the same tasks take turns with one model."""

    experiment: Experiment
    datasets: dict[str, Dataset] = field(default_factory=dict)
    models: dict[tuple[str, ...], LoadedModel] = field(default_factory=dict)

    def __call__(self, client: ClientSpec) -> Trainer:
        """The client's trainer. It shares its model with others: ``start`` it before each use."""
        experiment = self.experiment
        return Trainer(
            client,
            self.model(client.tasks),
            [self._shard(source) for source in client.sources],
            [get_task(task) for task in client.tasks],
            make_local_training(experiment),
            experiment.seed,
            experiment.evaluation.batch_size,
        )

    def _shard(self, source: Source) -> Shard:
        experiment, local = self.experiment, self.experiment.local
        if source.dataset not in self.datasets:
            self.datasets[source.dataset] = open_dataset(experiment.data[source.dataset])
        return Shard(
            source,
            self.datasets[source.dataset],
            [get_task(task) for task in source.tasks],
            experiment.augmentation.build(experiment.images.build()),
            local.epochs,
            local.batch_size,
            local.max_steps,
            local.loading_workers,
            experiment.seed,
        )

    def model(self, tasks: tuple[str, ...]) -> LoadedModel:
        """The model of all clients with these tasks, on the experiment's device."""
        if tasks not in self.models:
            device = self._device()
            module = make_model(self.experiment, tasks).to(device)
            private = private_names(module, self.experiment.model.normalisation)
            self.models[tasks] = LoadedModel(module, float_values(module), private, device)
        return self.models[tasks]

    def _device(self) -> torch.device:
        chosen = self.experiment.runtime.device
        if chosen == "cuda" and not torch.cuda.is_available():
            raise PlacementError("runtime.device: cuda, but torch sees no GPU in this process; allowed: cpu, auto")
        if chosen == "auto":
            chosen = "cuda" if self.experiment.runtime.gpus_per_client and torch.cuda.is_available() else "cpu"
        return torch.device(chosen)


@dataclass
class EncoderProbe:
    """Features of a fixed batch of training images, for correlations measured on the server's CPU.

    BatchNorm that is private to clients (``normalisation: local``) stands at its initial values here.

    Each image gives the 4 x 4 cells of its average-pooled deepest feature map as rows. Images are taken from the
    datasets in turn, resized to the crop size or to ``PROBE_SIZE`` pixels a side, whichever is less.
    """

    experiment: Experiment
    _models: dict[str, MultiTaskModel] = field(default_factory=dict)
    _images: dict[int, torch.Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def __call__(self, group: str, encoder: Params, images: int) -> NDArray[np.float32]:
        """Features, float32 [images * 16, channels], of the task group's encoder with these parameters."""
        name = self.experiment.encoder_of(group.split("+"))
        if name not in self._models:
            self._models[name] = build_model(partial(_make_encoder, self.experiment, name), {}, self.experiment.seed)
        if images not in self._images:
            self._images[images] = self._read(images)
        model = self._models[name].eval()
        model.load_state_dict({name: torch.tensor(value) for name, value in encoder.items()}, strict=False)
        encoder_module = model.encoder
        stages = encoder_module.body if isinstance(encoder_module, PyramidEncoder) else encoder_module
        cells = [F.adaptive_avg_pool2d(stages(image[None])["c5"], 4)[0] for image in self._images[images]]
        rows: NDArray[np.float32] = torch.stack(cells).flatten(2).transpose(1, 2).flatten(0, 1).numpy()
        return rows

    def _read(self, images: int) -> torch.Tensor:
        datasets = [open_dataset(data) for data in self.experiment.data.values()]
        batch = []
        for index in range(images):
            dataset = datasets[index % len(datasets)]
            ids = dataset.image_ids(TRAIN)
            image = to_tensor(dataset.read(ids[(index // len(datasets)) % len(ids)], ()).image)
            size = min(self.experiment.augmentation.crop_size, PROBE_SIZE)
            batch.append(F.interpolate(image[None], (size, size), mode="bilinear", align_corners=False)[0])
        return torch.stack(batch)


def make_simulation(experiment: Experiment, clients: Sequence[ClientSpec]) -> Simulation:
    """The federation. Raises ConfigError where its algorithm cannot serve these clients."""
    _check_training(experiment, clients)
    return Simulation(
        experiment.algorithm,
        clients,
        make_initial(experiment, clients),
        EncoderProbe(experiment),
        experiment.rounds,
        frozenset(experiment.evaluation.stages),
        experiment.evaluation.every,
        experiment.clients_per_round,
        experiment.seed,
    )


def _steps(experiment: Experiment, client: ClientSpec) -> int:
    local = experiment.local
    return sum(
        steps_of_round(len(source.train_ids), local.epochs, local.batch_size, local.max_steps)
        for source in client.sources
    )


def _check_training(experiment: Experiment, clients: Sequence[ClientSpec]) -> None:
    """Raises ConfigError for what an algorithm would pass over in silence, or fail at in its first round."""
    algorithm, name = experiment.algorithm, experiment.algorithm_name
    if algorithm.trainees(clients) != clients:
        if experiment.clients_per_round is not None:
            raise ConfigError(
                f"clients_per_round: {experiment.clients_per_round} found, but {name} trains on all clients' images "
                "together; leave it out"
            )
        if AFTER_AGGREGATION not in experiment.evaluation.stages:
            raise ConfigError(
                f"evaluation.stages: {', '.join(experiment.evaluation.stages)} found, but with {name} no client has a "
                f"model before aggregation; add {AFTER_AGGREGATION}"
            )
    for client in clients:
        if (steps := _steps(experiment, client)) < algorithm.least_steps:
            raise ConfigError(
                f"local.max_steps, local.epochs: client {client.name} takes {steps} of the {algorithm.least_steps} "
                f"steps a round that {name} needs at least; raise one of them, or give the client more images"
            )


def make_initial(experiment: Experiment, clients: Sequence[ClientSpec]) -> dict[str, Params]:
    """The initial model of each task group, less what never leaves a client."""
    initial: dict[str, Params] = {}
    encoders: dict[str, Params] = {}
    for client in clients:
        if client.group not in initial:
            model = make_model(experiment, client.tasks)
            private = private_names(model, experiment.model.normalisation)
            values = {name: value for name, value in float_values(model).items() if name not in private}
            # groups with one encoder hold the same arrays, not equal ones
            encoder = encoders.setdefault(experiment.encoder_of(client.tasks), encoder_of(values))
            initial[client.group] = {**values, **encoder}
    return initial
