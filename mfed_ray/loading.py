"""From a client's shard to batches of tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from mfed_ray.data.sample import Dataset, Sample
from mfed_ray.data.transforms import Augmentation, to_tensor
from mfed_ray.errors import MfedError
from mfed_ray.seeds import derive, generator
from mfed_ray.tasks.contract import Task

Batch = tuple[Tensor, Mapping[str, Tensor]]
"""Normalised images, float [B, 3, H, W], and one batch of training targets per task."""


@dataclass(frozen=True)
class _Epoch(TorchDataset[Batch | MfedError]):
    """The augmented images of one epoch. Each draws from a seed of its own, whoever loads it."""

    dataset: Dataset
    image_ids: Sequence[str]
    tasks: Sequence[Task]
    augmentation: Augmentation
    seed: int

    def __getitem__(self, index: int) -> Batch | MfedError:
        """The image, or what is wrong with it: raised in a loading process, an error would lose its type and words."""
        try:
            return self._read(index)
        except MfedError as error:
            return error

    def _read(self, index: int) -> Batch:
        image_id = self.image_ids[index]
        sample = self.dataset.read(image_id, [task.name for task in self.tasks])
        sample = self.augmentation(sample, generator(self.seed, image_id))
        targets = {task.name: torch.from_numpy(task.train_target(sample.targets[task.name])) for task in self.tasks}
        return to_tensor(sample.image), targets


def training_batches(
    dataset: Dataset,
    image_ids: Sequence[str],
    tasks: Sequence[Task],
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
) -> Iterator[Batch]:
    """One epoch in shuffled order; an incomplete last batch is dropped unless it is the only one.

    ``workers`` processes load ahead; the batches are the same for any number of them.
    """
    order = generator(seed, "shuffle").permutation(len(image_ids))
    size = min(batch_size, len(image_ids))
    batches = [order[i : i + size].tolist() for i in range(0, len(order) - size + 1, size)]
    epoch = _Epoch(dataset, image_ids, tasks, augmentation, derive(seed, "augment"))
    own_generator = torch.Generator()  # DataLoader would draw from the global one
    loader = DataLoader(
        epoch, batch_sampler=batches, num_workers=workers, generator=own_generator, collate_fn=_collated
    )
    for batch in loader:
        if isinstance(batch, MfedError):
            raise batch
        yield batch


def _collated(items: list[Batch | MfedError]) -> Any:
    return next((item for item in items if isinstance(item, MfedError)), None) or default_collate(items)


def held_out_batches(
    dataset: Dataset, image_ids: Sequence[str], tasks: Sequence[str], batch_size: int
) -> Iterator[tuple[Tensor, list[Sample]]]:
    """Whole images in their order; neighbours of one size share a batch, so none is padded or resized."""
    waiting: list[Sample] = []
    for image_id in image_ids:
        sample = dataset.read(image_id, tasks)
        if waiting and (len(waiting) == batch_size or sample.image.shape != waiting[0].image.shape):
            yield _stacked(waiting), waiting
            waiting = []
        waiting.append(sample)
    if waiting:
        yield _stacked(waiting), waiting


def _stacked(samples: Sequence[Sample]) -> Tensor:
    return torch.stack([to_tensor(np.ascontiguousarray(sample.image)) for sample in samples])
