"""Datasets and clients of an experiment: who has which images to train on, and which are held out."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np

from mfed_ray.data.sample import Dataset
from mfed_ray.data.screening import Screened
from mfed_ray.errors import DataError
from mfed_ray.evaluation import HELD_OUT, TRAIN
from mfed_ray.experiment.groups import model_name
from mfed_ray.experiment.schema import Clients, Data, Experiment, GeneratedData
from mfed_ray.messages import ClientSpec, group_name
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


def screened_datasets(experiment: Experiment) -> dict[str, Dataset]:
    """Every dataset, without what cannot be read where that is left out. Raises DataError as ``open_datasets``."""
    datasets = open_datasets(experiment)
    if experiment.partition.on_bad_sample == "error":
        return datasets
    return {name: Screened(dataset) for name, dataset in datasets.items()}


def make_clients(experiment: Experiment) -> list[ClientSpec]:
    """Every client with its shard. Raises DataError for an empty shard, or a task that the data lacks."""
    datasets = screened_datasets(experiment)
    _check_tasks(experiment, datasets)
    named = clients_by_name(experiment)
    shards, passed = _shards(experiment, datasets, named)
    held_out = {clients: _held_out(experiment, datasets, clients) for clients in experiment.clients}
    usable: dict[str, tuple[str, ...]] = {}
    for name, clients in named.items():
        usable[name] = tuple(i for i in shards[name] if _trainable(datasets[clients.data], i, clients.tasks))
        if not usable[name]:
            raise DataError(
                f"client {name}: its shard of {len(shards[name])} images of data.{clients.data} has none with targets "
                f"for {', '.join(clients.tasks)}; give it more images or fewer clients"
            )
    kept_back = _kept_back(experiment, usable) if experiment.algorithm.keeps_back else {}
    return [
        ClientSpec.of(
            name,
            clients.tasks,
            clients.data,
            usable[name],
            held_out[clients],
            kept_back.get(name, ()),
            _withheld(kept_back, named, name, usable[name]),
            model_name(experiment, clients),
            _skipped(datasets[clients.data], (*passed.get(name, ()), *shards[name]), clients.tasks),
        )
        for name, clients in named.items()
    ]


def _kept_back(experiment: Experiment, usable: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """By client: one image in two, two at most. Raises DataError for none at all."""
    found = {}
    for name, image_ids in usable.items():
        count = min(len(image_ids) // 2, 2)
        order = generator(experiment.seed, "kept_back", name).permutation(len(image_ids))
        found[name] = tuple(image_ids[position] for position in sorted(order[:count].tolist()))
    if not any(found.values()):
        raise DataError(
            "algorithm: judges by images that clients keep back, but each client has a single one; give a client two "
            "at least, or take another algorithm.correlation_threshold"
        )
    return found


def _withheld(
    kept_back: Mapping[str, Sequence[str]], named: Mapping[str, Clients], name: str, image_ids: Sequence[str]
) -> tuple[str, ...]:
    """The client's images that any client of the same data keeps back. Raises DataError where these are all."""
    gone = {i for other, ids in kept_back.items() if named[other].data == named[name].data for i in ids}
    withheld = tuple(image_id for image_id in image_ids if image_id in gone)
    if len(withheld) == len(image_ids):
        raise DataError(
            f"client {name}: the clients of data.{named[name].data} keep back all its {len(image_ids)} images; give it "
            "more images, or another algorithm.correlation_threshold"
        )
    return withheld


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
    """Each client's entry of ``clients``, by the client's name: its tasks, a dash, its number among theirs, from 0."""
    seen: dict[str, int] = {}
    named = {}
    for clients in experiment.clients:
        tasks = group_name(clients.tasks)
        for _ in range(clients.count):
            seen[tasks] = seen.get(tasks, -1) + 1
            named[f"{tasks}-{seen[tasks]}"] = clients
    return named


def _shards(
    experiment: Experiment, datasets: Mapping[str, Dataset], named: Mapping[str, Clients]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Each client's training images: first those of clients with a number of ``images``, then a deal of the rest.

    Then the images that clients with a number of ``images`` passed over, by client.
    """
    across_task = experiment.partition.across == "task"
    pools: dict[tuple[str, ...], dict[str, Clients]] = {}
    for name, entry in named.items():
        pools.setdefault((entry.data, *(entry.tasks if across_task else ())), {})[name] = entry
    shards: dict[str, list[str]] = {}
    passed: dict[str, list[str]] = {}
    for (data, *tasks), pool in pools.items():
        dataset = datasets[data]
        drawn, over = _drawn(experiment, dataset, pool, generator(experiment.seed, "images", data, *tasks))
        taken = {image_id for shard in drawn.values() for image_id in shard}
        rest = [image_id for image_id in dataset.image_ids(TRAIN) if image_id not in taken]
        others = [name for name in pool if name not in drawn]
        shards |= drawn
        passed |= over
        if others:
            labels = [dataset.dominant_class(i) for i in rest] if experiment.partition.scheme == "label" else None
            rng = generator(experiment.seed, "partition", data, *tasks)
            shards |= zip(others, experiment.partition.shards(rest, len(others), rng, labels), strict=True)
    return shards, passed


def _drawn(
    experiment: Experiment, dataset: Dataset, pool: Mapping[str, Clients], rng: np.random.Generator
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Shards of the clients with a number of ``images``: each takes the next with its targets of one random order.

    Then the images that each passed over. Raises DataError where too few are left.
    """
    image_ids = dataset.image_ids(TRAIN)
    left = dict.fromkeys(rng.permutation(len(image_ids)).tolist())
    shards, passed = {}, {}
    for name, entry in pool.items():
        if entry.images is None:
            continue
        shard: list[int] = []
        over: list[str] = []
        for index in left:
            if len(shard) == entry.images:
                break
            if _trainable(dataset, image_ids[index], entry.tasks):
                shard.append(index)
            else:
                over.append(image_ids[index])
        if len(shard) < entry.images:
            raise DataError(
                f"clients.{experiment.clients.index(entry)}.images: {entry.images} found, but client {name} has only "
                f"{len(shard)} images of data.{entry.data} left with targets for {', '.join(entry.tasks)}; ask for "
                "fewer images or clients, or list them before others"
            )
        for index in shard:
            del left[index]
        shards[name], passed[name] = [image_ids[index] for index in sorted(shard)], over
    return shards, passed


def _held_out(experiment: Experiment, datasets: Mapping[str, Dataset], clients: Clients) -> tuple[str, ...]:
    """The first held-out images with targets for all the clients' tasks. Raises DataError where there is none."""
    dataset = datasets[clients.data]
    usable = (i for i in dataset.image_ids(HELD_OUT) if _usable(dataset, i, clients.tasks))
    ids = tuple(islice(usable, experiment.evaluation.max_images))
    if not ids:
        raise DataError(f"data.{clients.data}: its {HELD_OUT} split has no image for {', '.join(clients.tasks)}")
    return ids


def _skipped(dataset: Dataset, met: Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    """Those of the training images that the client met which cannot be read and are left out, those held out last."""
    if not isinstance(dataset, Screened):
        return ()
    return dataset.skipped((*met, *dataset.image_ids(HELD_OUT)), tasks)


def _trainable(dataset: Dataset, image_id: str, tasks: Sequence[str]) -> bool:
    _screen(dataset, image_id, tasks)
    return all(dataset.trainable(image_id, task) for task in tasks)


def _usable(dataset: Dataset, image_id: str, tasks: Sequence[str]) -> bool:
    _screen(dataset, image_id, tasks)
    return all(dataset.usable(image_id, task) for task in tasks)


def _screen(dataset: Dataset, image_id: str, tasks: Sequence[str]) -> None:
    if isinstance(dataset, Screened):
        dataset.screen(image_id, tasks)
