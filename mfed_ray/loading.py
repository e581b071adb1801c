"""From a client's shard to batches of tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mfed_ray.data.sample import Dataset, Sample
from mfed_ray.data.settings import OWN_SIZE, Augmentation, InputSize
from mfed_ray.data.transforms import augment, resize_image, to_tensor
from mfed_ray.errors import MfedError
from mfed_ray.local_training import steps_of_round
from mfed_ray.messages import Source
from mfed_ray.models.contract import BatchTarget
from mfed_ray.seeds import derive, generator
from mfed_ray.tasks.contract import Task, TrainTarget

Batch = tuple[Tensor, Mapping[str, BatchTarget]]
"""Normalised images, float [B, 3, H, W], and one batch of training targets per task."""

_Item = tuple[Tensor, Mapping[str, Tensor | Mapping[str, Tensor]]]


VIEWS = 4
"""How often an image that is kept back is looked at: few images, so each in several crops and colours."""


@dataclass(frozen=True)
class _Epoch(TorchDataset[_Item | MfedError]):
    """The augmented images of one epoch. Each draws from a seed of its own, whoever loads it."""

    dataset: Dataset
    image_ids: Sequence[str]
    tasks: Sequence[Task]
    augmentation: Augmentation
    input_size: InputSize
    seed: int

    def __getitem__(self, index: int) -> _Item | MfedError:
        """The image, or what is wrong with it: raised in a loading process, an error would lose its type and words."""
        try:
            return self._read(index)
        except MfedError as error:
            return error

    def _read(self, index: int) -> _Item:
        image_id = self.image_ids[index]
        sample = self.dataset.read(image_id, [task.name for task in self.tasks])
        sample = augment(sample, self.augmentation, generator(self.seed, image_id), self.input_size)
        targets = {task.name: _tensors(task.train_target(sample.targets[task.name])) for task in self.tasks}
        return to_tensor(sample.image), targets


@dataclass(frozen=True)
class Shard:
    """A source's images, and how a round goes over them. ``max_steps`` bounds its batches."""

    source: Source
    dataset: Dataset
    tasks: Sequence[Task]
    augmentation: Augmentation
    epochs: int
    batch_size: int
    max_steps: int | None
    workers: int
    seed: int
    input_size: InputSize = OWN_SIZE

    def steps(self, withhold: bool = True) -> int:
        """Number of batches of a round."""
        return steps_of_round(len(self.source.ids(withhold)), self.epochs, self.batch_size, self.max_steps)

    def batches(self, round_number: int, withhold: bool = True) -> Iterator[Batch]:
        """The round's batches, with or without the images that are withheld: a pure function of the round."""
        ids = self.source.ids(withhold)
        epochs = (self._epoch(ids, round_number, epoch) for epoch in range(self.epochs))
        return islice(chain.from_iterable(epochs), self.steps(withhold))

    def alignment_batches(self, round_number: int, steps: int) -> Iterator[Batch]:
        """As many batches for the decoders alone, in an order of their own, without the images that are withheld."""
        ids = self.source.ids(withhold=True)
        return islice(chain.from_iterable(self._epoch(ids, round_number, epoch, "align") for epoch in count()), steps)

    def kept_back_batches(self) -> Iterator[Batch]:
        """The images that are kept back, augmented in ``VIEWS`` ways, the same each time."""
        ids = self.source.kept_back
        for view in range(VIEWS if ids else 0):
            yield from self._batches(ids, len(ids), derive(self.seed, self.source.client, "kept_back", view))

    def _epoch(self, ids: Sequence[str], round_number: int, epoch: int, *use: str) -> Iterator[Batch]:
        return self._batches(ids, self.batch_size, derive(self.seed, self.source.client, round_number, epoch, *use))

    def _batches(self, image_ids: Sequence[str], size: int, seed: int) -> Iterator[Batch]:
        return training_batches(
            self.dataset,
            image_ids,
            self.tasks,
            self.augmentation,
            batch_size=size,
            seed=seed,
            workers=self.workers,
            input_size=self.input_size,
        )


def training_batches(
    dataset: Dataset,
    image_ids: Sequence[str],
    tasks: Sequence[Task],
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    input_size: InputSize = OWN_SIZE,
) -> Iterator[Batch]:
    """One epoch in shuffled order; an incomplete last batch is dropped unless it is the only one.

    ``workers`` processes load ahead; the batches are the same for any number of them.
    """
    order = generator(seed, "shuffle").permutation(len(image_ids))
    size = min(batch_size, len(image_ids))
    batches = [order[i : i + size].tolist() for i in range(0, len(order) - size + 1, size)]
    epoch = _Epoch(dataset, image_ids, tasks, augmentation, input_size, derive(seed, "augment"))
    own_generator = torch.Generator()  # DataLoader would draw from the global one
    loader = DataLoader(
        epoch, batch_sampler=batches, num_workers=workers, generator=own_generator, collate_fn=_collated
    )
    for batch in loader:
        if isinstance(batch, MfedError):
            raise batch
        yield batch


def _tensors(target: TrainTarget) -> Tensor | dict[str, Tensor]:
    if isinstance(target, Mapping):
        return {name: torch.from_numpy(array) for name, array in target.items()}
    return torch.from_numpy(target)


def _collated(items: list[_Item | MfedError]) -> Batch | MfedError:
    whole: list[_Item] = []
    for item in items:
        if isinstance(item, MfedError):
            return item
        whole.append(item)
    images, targets = zip(*whole, strict=True)
    return torch.stack(images), {task: _joined([each[task] for each in targets]) for task in targets[0]}


def _joined(targets: list[Any]) -> BatchTarget:
    return torch.stack(targets) if isinstance(targets[0], Tensor) else targets


def held_out_batches(
    dataset: Dataset,
    image_ids: Sequence[str],
    tasks: Sequence[str],
    batch_size: int,
    input_size: InputSize = OWN_SIZE,
) -> Iterator[tuple[Tensor, list[Sample]]]:
    """Whole images in their order, at the network's ``input_size``, beside the samples as they were read.

    Neighbours of one size share a batch, so none is padded, and no prediction depends on the batch.
    """
    waiting: list[Sample] = []
    for image_id in image_ids:
        sample = dataset.read(image_id, tasks)
        if waiting and (len(waiting) == batch_size or sample.image.shape != waiting[0].image.shape):
            yield _stacked(waiting, input_size), waiting
            waiting = []
        waiting.append(sample)
    if waiting:
        yield _stacked(waiting, input_size), waiting


def _stacked(samples: Sequence[Sample], input_size: InputSize) -> Tensor:
    return torch.stack([network_input(sample.image, input_size) for sample in samples])


def network_input(image: NDArray[np.uint8], input_size: InputSize) -> Tensor:
    """An image, uint8 [H, W, 3], as the network sees it: resized and normalised, float [3, h, w]."""
    height, width = image.shape[:2]
    return to_tensor(resize_image(image, input_size.of(height, width)))
