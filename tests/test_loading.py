from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfed_ray.data.pascal_context import PascalContext
from mfed_ray.data.sample import Sample
from mfed_ray.data.settings import Augmentation
from mfed_ray.data.transforms import to_tensor
from mfed_ray.loading import Batch, Shard, held_out_batches, training_batches
from mfed_ray.messages import Source
from mfed_ray.tasks import get_task

TASKS = [get_task("semantic_segmentation"), get_task("surface_normals")]
AS_IT_IS = Augmentation(crop_size=32, scale=(1.0, 1.0), flip=0.0, colour=0.0)
STRONG = Augmentation(crop_size=24, scale=(0.5, 2.0), flip=0.5, colour=0.5)


def epoch(
    root: Path, count: int, augmentation: Augmentation = STRONG, *, first: int = 0, **settings: Any
) -> list[Batch]:
    dataset = PascalContext(root)
    ids = dataset.image_ids("train")[first : first + count]
    settings = {"batch_size": 4, "seed": 7, **settings}
    return list(training_batches(dataset, ids, TASKS, augmentation, **settings))


def images(batches: Sequence[Batch]) -> torch.Tensor:
    return torch.cat([batch for batch, _ in batches])


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(16, 4, [4, 4, 4, 4]), (11, 4, [4, 4]), (3, 4, [3]), (4, 4, [4]), (2, 1, [1, 1])],
)
def test_an_incomplete_last_batch_is_dropped_unless_it_is_the_only_one(
    scenes: Path, count: int, batch_size: int, sizes: list[int]
) -> None:
    assert [len(batch) for batch, _ in epoch(scenes, count, batch_size=batch_size)] == sizes


def test_an_epoch_holds_each_image_once_with_its_own_targets(scenes: Path) -> None:
    dataset = PascalContext(scenes)
    names = [task.name for task in TASKS]
    read = [dataset.read(image_id, names) for image_id in dataset.image_ids("train")]
    found = []
    for batch, targets in epoch(scenes, 16, AS_IT_IS):
        for index, image in enumerate(batch):
            sample = next(one for one in read if torch.equal(to_tensor(one.image), image))
            found.append(sample.image_id)
            for task in TASKS:
                expected = task.train_target(sample.targets[task.name])
                np.testing.assert_array_equal(targets[task.name][index].numpy(), expected)
    assert sorted(found) == sorted(dataset.image_ids("train"))
    assert found != sorted(found)  # shuffled


def test_an_epoch_is_a_function_of_its_seed(scenes: Path) -> None:
    one, again, other = (images(epoch(scenes, 16, seed=seed)) for seed in (7, 7, 8))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_an_images_augmentation_depends_neither_on_its_batch_nor_on_its_place(scenes: Path) -> None:
    assert torch.equal(images(epoch(scenes, 16, batch_size=1)), images(epoch(scenes, 16, batch_size=8)))
    few, many = images(epoch(scenes, 3, first=5)), images(epoch(scenes, 16))
    assert all(any(torch.equal(image, other) for other in many) for image in few)


def test_an_image_is_augmented_anew_in_every_epoch(scenes: Path) -> None:
    dataset = PascalContext(scenes)
    first = dataset.image_ids("train")[0]
    copies = []
    for seed in range(4):
        batches = training_batches(dataset, [first], TASKS, STRONG, batch_size=1, seed=seed)
        copies.append(images(list(batches)))
    assert not any(torch.equal(copies[0], copy) for copy in copies[1:])


# Python 3.12 and later warn of forks in a process with threads, which torch always is
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_load_the_same_batches(scenes: Path) -> None:
    alone, helped = epoch(scenes, 8), epoch(scenes, 8, workers=2)
    assert torch.equal(images(alone), images(helped))
    for (_, a), (_, b) in zip(alone, helped, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in ("semantic_segmentation", "surface_normals"))


def test_global_random_numbers_are_left_alone(scenes: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = images(epoch(scenes, 8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(images(epoch(scenes, 8)), first)


def shard(root: Path, count: int, name: str = "saliency-0", **settings: Any) -> Shard:
    dataset = PascalContext(root)
    source = Source(name, ("saliency",), "scenes", tuple(dataset.image_ids("train")[:count]))
    given = {"epochs": 1, "batch_size": 4, "max_steps": None, "workers": 0, "seed": 7, **settings}
    return Shard(source, dataset, [get_task("saliency")], STRONG, **given)


@pytest.mark.parametrize(
    ("count", "epochs", "batch_size", "max_steps", "steps"),
    [
        (11, 1, 4, None, 2),  # 11 = 4 + 4 and an incomplete batch
        (11, 3, 4, None, 6),
        (3, 2, 4, None, 2),  # the only batch of an epoch, however small
        (11, 3, 4, 5, 5),
        (11, 3, 4, 7, 6),
        (11, 3, 4, 2, 2),
    ],
)
def test_a_shard_has_as_many_batches_as_it_says(
    scenes: Path, count: int, epochs: int, batch_size: int, max_steps: int | None, steps: int
) -> None:
    one = shard(scenes, count, epochs=epochs, batch_size=batch_size, max_steps=max_steps)
    assert (one.steps(), len(list(one.batches(1)))) == (steps, steps)


def test_a_rounds_batches_are_a_function_of_seed_client_and_round(scenes: Path) -> None:
    one = images(list(shard(scenes, 8).batches(1)))
    assert torch.equal(one, images(list(shard(scenes, 8).batches(1))))
    others = [
        shard(scenes, 8).batches(2),
        shard(scenes, 8, "saliency-1").batches(1),
        shard(scenes, 8, seed=8).batches(1),
    ]
    assert not any(torch.equal(one, images(list(other))) for other in others)


def test_epochs_follow_one_another_and_steps_cut_the_last(scenes: Path) -> None:
    """The first epoch of several is the one of one; a bound takes from the end. No two epochs are alike."""
    single, whole, cut = (
        images(list(shard(scenes, 8, epochs=epochs, max_steps=steps).batches(1)))
        for epochs, steps in ((1, None), (3, None), (3, 3))
    )
    assert torch.equal(whole[:8], single)
    assert torch.equal(cut, whole[:12])
    assert not torch.equal(whole[8:16], whole[:8])


class Plain:
    """A data set in memory: image ``i`` is i * 10 throughout, of the size given."""

    tasks = frozenset({"saliency"})

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = sizes

    def image_ids(self, split: str) -> Sequence[str]:
        del split
        return [str(index) for index in range(len(self.sizes))]

    def usable(self, image_id: str, task: str) -> bool:
        return task in self.tasks and int(image_id) < len(self.sizes)

    def trainable(self, image_id: str, task: str) -> bool:
        return self.usable(image_id, task)

    def dominant_class(self, image_id: str) -> int:
        return int(image_id) % 21

    def read(self, image_id: str, tasks: Sequence[str]) -> Sample:
        size = self.sizes[int(image_id)]
        image = np.full((*size, 3), 10 * int(image_id), np.uint8)
        return Sample(image_id, image, {task: np.zeros(size, np.uint8) for task in tasks})


A, B = (4, 6), (6, 4)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ([A] * 5, 2, ["01", "23", "4"]),
        ([A, A, B, B, B, A], 2, ["01", "23", "4", "5"]),
        ([A, B, A, B], 8, ["0", "1", "2", "3"]),
        ([A] * 3, 1, ["0", "1", "2"]),
        ([A] * 3, 3, ["012"]),
        ([], 3, []),
    ],
)
def test_held_out_images_keep_order_and_size(
    sizes: list[tuple[int, int]], batch_size: int, expected: list[str]
) -> None:
    dataset = Plain(sizes)
    batches = list(held_out_batches(dataset, dataset.image_ids("val"), ["saliency"], batch_size))
    assert ["".join(sample.image_id for sample in samples) for _, samples in batches] == expected
    for batch, samples in batches:
        assert batch.shape == (len(samples), 3, *samples[0].image.shape[:2])
        for image, sample in zip(batch, samples, strict=True):
            assert torch.equal(image, to_tensor(sample.image))
            assert set(sample.targets) == {"saliency"}


def test_real_images_of_several_sizes_are_all_there(shared: Path) -> None:
    dataset = PascalContext(shared / "data" / "pascal_mini")
    ids = dataset.image_ids("val")
    batches = list(held_out_batches(dataset, ids, ["saliency"], 4))
    assert [sample.image_id for _, samples in batches for sample in samples] == list(ids)
    shapes = {tuple(batch.shape[2:]) for batch, _ in batches}
    assert len(shapes) > 1
    for batch, samples in batches:
        assert {sample.targets["saliency"].shape for sample in samples} == {tuple(batch.shape[2:])}
