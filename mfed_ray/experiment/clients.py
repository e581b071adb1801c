"""Datasets and clients of an experiment: who has which images to train on, and which are held out."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from mfed_ray.data.sample import Dataset
from mfed_ray.errors import DataError
from mfed_ray.evaluation import HELD_OUT, TRAIN
from mfed_ray.experiment.schema import Clients, Data, Experiment, GeneratedData
from mfed_ray.messages import ClientSpec
from mfed_ray.seeds import generator


def open_dataset(data: Data, processes: int = 1, on_progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The dataset, generated first where it is to be and is not there yet. Raises DataError."""
    # each layout's reader is imported where there are such data: a run begins sooner
    layout: str = data.format
    if isinstance(data, GeneratedData):
        from mfed_ray.data.generated import LAYOUTS

        layout = data.layout
        LAYOUTS[layout](data.root, data.images, data.size, data.seed, data.val_fraction, on_progress, processes)
    if layout == "coco":
        from mfed_ray.data.coco import Coco

        return Coco(data.root)
    from mfed_ray.data.pascal_context import PascalContext

    return PascalContext(data.root)


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
    """Raise DataError for a task that a dataset has no targets for."""
    for index, clients in enumerate(experiment.clients):
        has = datasets[clients.data].tasks
        if lacking := sorted({*clients.tasks} - has):
            raise DataError(
                f"clients.{index}.tasks: data.{clients.data} has no task {', '.join(lacking)}, it has: "
                f"{', '.join(sorted(has))}"
            )


def clients_by_name(experiment: Experiment) -> dict[str, Clients]:
    """Each client's entry of ``clients``, by the client's name: its task group, a dash and its number in it, from 0."""
    seen: dict[str, int] = {}
    named = {}
    for clients in experiment.clients:
        group = "+".join(clients.tasks)
        for _ in range(clients.count):
            seen[group] = seen.get(group, -1) + 1
            named[f"{group}-{seen[group]}"] = clients
    return named


def _shards(experiment: Experiment, datasets: Mapping[str, Dataset], clients: Sequence[Clients]) -> list[list[str]]:
    """Image ids for each of the ``clients``, in their order; an entry of several clients stands there as often."""
    across_task = experiment.partition.across == "task"
    pools: dict[tuple[str, ...], list[int]] = {}
    for position, entry in enumerate(clients):
        pools.setdefault((entry.data, *(entry.tasks if across_task else ())), []).append(position)
    shards: list[list[str]] = [[] for _ in clients]
    for (data, *tasks), positions in pools.items():
        dataset = datasets[data]
        image_ids = list(dataset.image_ids(TRAIN))
        labels = [dataset.dominant_class(i) for i in image_ids] if experiment.partition.scheme == "label" else None
        rng = generator(experiment.seed, "partition", data, *tasks)
        dealt = experiment.partition.shards(image_ids, len(positions), rng, labels)
        for position, shard in zip(positions, dealt, strict=True):
            shards[position] = shard
    return shards


def _held_out(experiment: Experiment, datasets: Mapping[str, Dataset], clients: Clients) -> tuple[str, ...]:
    """The first held-out images with targets for all the clients' tasks. Raises DataError where there is none."""
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
