"""What every registered task promises: its target, decoder, loss, prediction and metric fit together."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.multitask import MultiTaskModel, build_model
from mfed_ray.models.trunks import TRUNKS
from mfed_ray.tasks import TASKS, Task

HEIGHT, WIDTH = 48, 64
SAMPLE_SHAPES: dict[str, tuple[int, ...]] = {"edge_detection": (3,), "surface_normals": (3,)}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def sample_target(task: Task) -> NDArray[Any]:
    """A left and a right half, in the sample's format: the classes 0 and 1, normals z and x, void on top."""
    if task.name == "surface_normals":
        normals = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
        normals[2:, : WIDTH // 2, 2] = normals[2:, WIDTH // 2 :, 0] = 1
        return normals
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    if task.name == "edge_detection":
        labels[:, WIDTH // 2] = 1
        return np.repeat(labels[:, :, None], 3, axis=2)
    labels[:, WIDTH // 2 :] = 1
    labels[:2] = 255
    return labels


def batch(task: Task) -> tuple[Tensor, Tensor]:
    """Two images whose halves differ in brightness, and their targets."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    images[..., WIDTH // 2 :] += 2
    return images, torch.from_numpy(np.stack([task.train_target(sample_target(task))] * 2))


def model_of(task: Task, style: str) -> MultiTaskModel:
    decoder = partial(task.make_decoder, style=style, width=8, normalisation="average")
    return build_model(partial(make_encoder, "resnet10", 16, None, "average"), {task.name: decoder}, 0)


@every_task
@pytest.mark.parametrize("style", TRUNKS)
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
    model = model_of(task, "light")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(8):
        loss = torch.stack(list(model.losses(images, {task.name: target})[task.name].values())).sum()
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.9 * history[0]


@every_task
def test_predictions_are_what_the_metric_takes(task: Task) -> None:
    images, _ = batch(task)
    prediction = model_of(task, "light").predict(images)[task.name].detach().numpy()
    metric = task.make_metric()
    for each in prediction:
        metric.update(each, sample_target(task))
    assert task.headline.metric in metric.compute()


@every_task
def test_ground_truth_scores_perfectly(task: Task) -> None:
    truth = sample_target(task)
    perfect_predictions = {
        "saliency": (truth == 1).astype(np.float32),
        "edge_detection": truth[..., 0].astype(np.float32),
    }
    prediction = perfect_predictions.get(task.name, truth)
    metric = task.make_metric()
    metric.update(prediction, truth)
    perfect = 1.0 if task.headline.higher_is_better else 0.0
    assert metric.compute()[task.headline.metric] == pytest.approx(perfect, abs=1e-6)
