"""What every registered task promises: its target, decoder, loss, prediction, metric and files fit together."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.annotations import Objects, Prediction, Segments, Target, mask_box
from mfed_ray.models.contract import BatchTarget
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.multitask import MultiTaskModel, build_model
from mfed_ray.models.settings import ModelSettings
from mfed_ray.models.trunks import TRUNKS
from mfed_ray.tasks import TASKS, Task

HEIGHT, WIDTH = 48, 64

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def labels() -> NDArray[Any]:
    """A left half of class 0 and a right half of class 1, void on top."""
    halves = np.zeros((HEIGHT, WIDTH), np.uint8)
    halves[:, WIDTH // 2 :] = 1
    halves[:2] = 255
    return halves


def two_objects(*, with_masks: bool) -> Objects:
    """The halves, of the classes 1 and 2 with masks, else two people with all their keypoints on a diagonal."""
    masks = np.stack([labels() == 0, labels() == 1]).astype(np.uint8)
    boxes = np.stack([mask_box(mask) for mask in masks])
    areas, crowd = masks.sum(axis=(1, 2)).astype(np.float32), np.zeros(2, bool)
    if with_masks:
        return Objects((HEIGHT, WIDTH), boxes, np.array([1, 2]), areas, crowd, masks)
    steps = np.linspace(0.1, 0.9, 17, dtype=np.float32)[None, :, None]
    corner, side = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    keypoints = np.concatenate([corner + steps * side, np.full((2, 17, 1), 2)], axis=2).astype(np.float32)
    return Objects((HEIGHT, WIDTH), boxes, np.array([1, 1]), areas, crowd, keypoints=keypoints)


def normals() -> NDArray[Any]:
    """A left half that faces the viewer, a right half that faces right, void on top."""
    halves = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    halves[2:, : WIDTH // 2, 2] = halves[2:, WIDTH // 2 :, 0] = 1
    return halves


def edges() -> NDArray[Any]:
    """Three annotators who agree on the line between the halves."""
    line = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    line[:, WIDTH // 2] = 1
    return line


SAMPLES: Mapping[str, Callable[[], Target]] = {
    "surface_normals": normals,
    "edge_detection": edges,
    "instance_segmentation": partial(two_objects, with_masks=True),
    "keypoint_detection": partial(two_objects, with_masks=False),
    # a person on the left, sky on the right
    "panoptic_segmentation": lambda: Segments(
        np.where(labels() == 255, 0, labels() + 7).astype(np.int32),
        np.array([7, 8]),
        np.array([0, 119]),
        np.zeros(2, bool),
    ),
}
"""Targets in the sample's format; labels where nothing else is said."""


def sample_target(task: Task) -> Target:
    make: Callable[[], Target] = SAMPLES.get(task.name, labels)
    return make()


def batch(task: Task) -> tuple[Tensor, BatchTarget]:
    """Two images whose halves differ in brightness, and their targets."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    images[..., WIDTH // 2 :] += 2
    target = task.train_target(sample_target(task))
    if isinstance(target, Mapping):
        return images, [{name: torch.from_numpy(array) for name, array in target.items()}] * 2
    return images, torch.from_numpy(np.stack([target] * 2))


def model_of(task: Task, style: str = "light") -> MultiTaskModel:
    settings = ModelSettings(
        decoder=style, decoder_width=16, fpn_width=16, anchor_size=8, score_threshold=0.01, normalisation="average"
    )
    return build_model(
        partial(make_encoder, "resnet10", 32, None, "average"),
        {task.name: lambda channels: task.make_decoder(channels, settings)},
        0,
    )


@pytest.mark.parametrize(
    ("task", "style"),
    [(task, style) for task in TASKS.values() for style in (("aspp",) if task.pyramid else TRUNKS)],
    ids=lambda value: value.name if isinstance(value, Task) else value,
)
def test_gradients_reach_everything(task: Task, style: str) -> None:
    images, target = batch(task)
    model = model_of(task, style)
    losses = model.losses(images, {task.name: target})[task.name]
    assert all(loss.shape == () for loss in losses.values())
    torch.autograd.backward([torch.stack(list(losses.values())).sum()])
    silent = [name for name, each in model.named_parameters() if each.grad is None or not bool(each.grad.any())]
    assert silent == []


@every_task
def test_training_lowers_the_loss_by_a_tenth(task: Task) -> None:
    images, target = batch(task)
    model = model_of(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01 if not task.pyramid else 0.003)
    history = []
    for _ in range(8):
        loss = torch.stack(list(model.losses(images, {task.name: target})[task.name].values())).sum()
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.9 * history[0]


@every_task
def test_predictions_are_what_metric_and_files_take(task: Task, tmp_path: Path) -> None:
    images, _ = batch(task)
    predictions = model_of(task).eval().predict(images, (HEIGHT, WIDTH))[task.name]
    metric, writer = task.make_metric(), task.make_writer(tmp_path / task.name)
    assert len(predictions) == 2
    for name, each in zip(("7", "8"), predictions, strict=True):
        metric.update(each, sample_target(task))
        writer.add(name, np.zeros((HEIGHT, WIDTH, 3), np.uint8), each)
    writer.close()
    assert task.headline.metric in metric.compute()
    assert {path.name for path in (tmp_path / task.name / "overlays").iterdir()} == {"7.png", "8.png"}


@every_task
def test_ground_truth_scores_perfectly(task: Task, perfect: Callable[[str, Target], Prediction]) -> None:
    truth = sample_target(task)
    metric = task.make_metric()
    metric.update(perfect(task.name, truth), truth)
    best = 1.0 if task.headline.higher_is_better else 0.0
    assert metric.compute()[task.headline.metric] == pytest.approx(best, abs=1e-6)


@every_task
def test_the_constant_prediction_is_what_the_metric_takes_and_far_from_perfect(task: Task) -> None:
    truth = sample_target(task)
    metric = task.make_metric()
    metric.update(task.constant([truth])(HEIGHT, WIDTH), truth)
    value = metric.compute()[task.headline.metric]
    assert value <= 0.5 if task.headline.higher_is_better else value > 40
