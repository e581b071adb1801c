"""A tiny model learns four drawn images by heart: wrong targets, scales, boxes or masks show in the score.

Predictions are judged by the project's metrics in the images' own pixels, which are not always those that the network
sees.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.annotations import Detections, Objects, Prediction, Segments, Target
from mfed_ray.coco_categories import SKELETON, STUFF, THINGS
from mfed_ray.data.object_geometry import resize_objects
from mfed_ray.data.resampling import nearest
from mfed_ray.metrics.coco_objects import CocoObjects, Kind
from mfed_ray.metrics.panoptic_quality import PanopticQuality
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.models.contract import BatchTarget, Decoder, Encoder
from mfed_ray.models.detection import KeypointRCNN, MaskRCNN
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.panoptic import PanopticFPN
from mfed_ray.models.pyramid import PyramidEncoder
from mfed_ray.models.semantic_fpn import SemanticFPN
from mfed_ray.models.settings import ModelSettings, PanopticMerge
from mfed_ray.tasks import get_task

Size = tuple[int, int]
Image = NDArray[np.float32]
Map = NDArray[np.uint8]
MakeDecoder = Callable[[Mapping[str, int]], Decoder]

IMAGES = range(4)
SETTINGS = ModelSettings(
    decoder_width=48,
    normalisation="group",
    fpn_width=16,
    anchor_size=10,
    box_samples=48,  # the standard 512 are for images of a hundred times the pixels
    panoptic=PanopticMerge(stuff_area=64),
)
LANDSCAPE = {40: (0.4, 0.6, 0.9), 34: (0.1, 0.2, 0.6), 46: (0.2, 0.6, 0.2)}
"""Colours of sky, water and grass, each by 1 + its index among the merged stuff classes."""
SHAPES = {1: (1.0, 0.0, 0.0), 10: (1.0, 1.0, 0.0), 80: (1.0, 0.0, 1.0)}
"""Colours of discs, boxes and diamonds, by the label of the things that they stand for."""
POSE = np.array(
    [(50, 6), (55, 3), (45, 3), (61, 6), (39, 6), (72, 22), (28, 22), (86, 38), (14, 38), (97, 52), (3, 52), (63, 54),
     (37, 54), (67, 76), (33, 76), (70, 97), (30, 97)]
)  # fmt: skip
"""Where a person's 17 keypoints lie, in percent of the box."""


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def centres(size: Size) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The y and the x of every pixel's centre."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return y, x


def draw_landscape(number: int, size: Size) -> tuple[Image, Map]:
    """Sky, a strip of water and grass, and their labels."""
    rng = np.random.default_rng(number)
    y, x = centres(size)
    horizon = size[0] * rng.uniform(0.2, 0.45) + x * rng.uniform(-0.1, 0.1)
    band = (y > horizon).astype(int) + (y > horizon + 30)
    colours = np.array(list(LANDSCAPE.values()), np.float32)
    return colours[band], np.array(list(LANDSCAPE), np.uint8)[band]


def draw_shapes(number: int, image: Image) -> Objects:
    """A disc, a box and a diamond side by side."""
    rng = np.random.default_rng(100 + number)
    size = (image.shape[0], image.shape[1])
    y, x = centres(size)
    labels, masks = rng.permutation(list(SHAPES)), []
    for third, label in enumerate(labels):
        radius, middle = rng.uniform(9, 15), size[0] * rng.uniform(0.3, 0.7)
        across, down = np.abs(x - (third + 0.5) * size[1] / 3), np.abs(y - middle)
        distance = {1: np.hypot(across, down), 10: np.maximum(across, 1.3 * down), 80: across + down}[int(label)]
        image[distance < radius] = rng.uniform(0.7, 1.0) * np.array(SHAPES[int(label)])
        masks.append((distance < radius).astype(np.uint8))
    boxes = [(*np.argwhere(mask).min(axis=0)[::-1], *(np.argwhere(mask).max(axis=0)[::-1] + 1)) for mask in masks]
    areas = np.array([mask.sum() for mask in masks], np.float32)
    return Objects(size, np.array(boxes, np.float32), labels, areas, np.zeros(3, bool), np.stack(masks))


def draw_people(number: int, image: Image) -> Objects:
    """Two people side by side, each limb in a colour of its own."""
    rng = np.random.default_rng(200 + number)
    size = (image.shape[0], image.shape[1])
    boxes, keypoints = [], []
    for half in range(2):
        extent = rng.uniform((30, 55), (48, 80))
        corner = rng.uniform((2 + half * size[1] / 2, 2), (12 + half * size[1] / 2, size[0] - 82))
        joints = corner + POSE / 100 * extent
        for limb, (start, end) in enumerate(SKELETON):
            near = distance_to_line(size, joints[start], joints[end]) < 1.5
            image[near] = np.random.default_rng(limb).uniform(0, 1, 3)
        boxes.append((*corner, *(corner + extent)))
        keypoints.append(np.column_stack([joints, np.full(17, 2)]))
    areas = [0.5 * (right - left) * (bottom - top) for left, top, right, bottom in boxes]
    return Objects(
        size,
        np.array(boxes, np.float32),
        np.ones(2, np.int64),
        np.array(areas, np.float32),
        np.zeros(2, bool),
        keypoints=np.array(keypoints, np.float32),
    )


def distance_to_line(size: Size, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every pixel's centre to the line between two points x, y: [H, W]."""
    y, x = centres(size)
    across, down = end - start
    share = (((x - start[0]) * across + (y - start[1]) * down) / (across**2 + down**2)).clip(0, 1)
    distance: NDArray[np.float64] = np.hypot(x - start[0] - share * across, y - start[1] - share * down)
    return distance


def network_input(images: Sequence[Image], size: Size) -> Tensor:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return F.interpolate(batch, size=size, mode="bilinear", antialias=True) * 4 - 2


def train_target(task: str, target: Objects | Segments, size: Size) -> dict[str, Tensor]:
    """What the task's decoder learns from, of the target at another ``size``."""
    if isinstance(target, Segments):
        resized: Target = replace(target, map=nearest(target.map, size))
    else:
        resized = resize_objects(target, size)
    return {name: torch.from_numpy(array) for name, array in get_task(task).train_target(resized).items()}


def learn(
    encoder: Encoder, make: MakeDecoder, images: Tensor, targets: BatchTarget, original: Size, steps: int, rate: float
) -> list[Prediction]:
    """Fit a model to four images [4, 3, H, W] in steps of two, and predict them at their ``original`` size."""
    decoder = make(encoder.channels)
    size = (images.shape[2], images.shape[3])
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.15, div_factor=5)
    for step in range(steps):
        pair = slice(0, 2) if step % 2 else slice(2, 4)
        losses = decoder.losses(encoder(images[pair]), targets[pair], size)
        optimiser.zero_grad()
        torch.autograd.backward(list(losses.values()))
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return decoder.eval().predict(encoder(images), size, original)


def score_objects(kind: Kind, found: Sequence[Prediction], truth: Sequence[Objects]) -> dict[str, float]:
    metric = CocoObjects(kind)
    for prediction, target in zip(found, truth, strict=True):
        metric.update(cast("Detections", prediction), target)
    return metric.compute()


def test_masks_of_resized_images() -> None:
    original, size = (96, 128), (72, 96)
    images = [draw_landscape(number, original)[0] for number in IMAGES]
    truth = [draw_shapes(number, image) for number, image in enumerate(images)]
    encoder = make_encoder("resnet10", 32, None, "group")
    targets = [train_target("instance_segmentation", each, size) for each in truth]
    settings = SETTINGS.model_copy(update={"decoder_width": 32})
    batch = network_input(images, size)
    found = learn(encoder, lambda channels: MaskRCNN(channels, settings), batch, targets, original, 75, 5e-3)
    values = score_objects("mask", found, truth)
    assert values["mask_ap50"] > 0.95
    assert values["mask_ap"] > 0.7
    assert values["box_ap"] > 0.6


def test_keypoints_of_resized_images_of_odd_sizes() -> None:
    original, size = (97, 125), (77, 101)
    images = [draw_landscape(number, original)[0] for number in IMAGES]
    truth = [draw_people(number, image) for number, image in enumerate(images)]
    encoder = make_encoder("resnet10", 32, None, "group")
    targets = [train_target("keypoint_detection", each, size) for each in truth]
    settings = SETTINGS.model_copy(update={"decoder_width": 16})
    batch = network_input(images, size)
    found = learn(encoder, lambda channels: KeypointRCNN(channels, settings), batch, targets, original, 75, 3e-3)
    values = score_objects("keypoint", found, truth)
    assert values["keypoint_ap"] > 0.8


def test_stuff_of_odd_sizes() -> None:
    size = (97, 125)
    images, truth = zip(*(draw_landscape(number, size) for number in IMAGES), strict=True)
    encoder, labels = make_encoder("resnet10", 32, None, "group"), torch.from_numpy(np.stack(truth)).long()
    batch = network_input(images, size)
    found = learn(encoder, lambda channels: SemanticFPN(channels, SETTINGS, len(STUFF)), batch, labels, size, 35, 5e-3)
    metric = MeanIoU(len(STUFF))
    for prediction, target in zip(found, truth, strict=True):
        metric.update(prediction, target)
    assert metric.compute()["miou"] > 0.9


def test_panoptic_segments_of_resized_images_with_the_pyramid_in_the_encoder() -> None:
    original, size = (96, 128), (75, 99)
    scenes = [draw_landscape(number, original) for number in IMAGES]
    objects = [draw_shapes(number, image) for number, (image, _) in enumerate(scenes)]
    truth = [drawn_segments(semantic, each) for (_, semantic), each in zip(scenes, objects, strict=True)]
    targets = [train_target("panoptic_segmentation", each, size) for each in truth]
    encoder = PyramidEncoder(make_encoder("resnet10", 32, None, "group"), SETTINGS.fpn_width, "group")
    images = network_input([image for image, _ in scenes], size)
    found = learn(encoder, lambda channels: PanopticFPN(channels, SETTINGS), images, targets, original, 75, 3e-3)
    metric = PanopticQuality()
    for prediction, segments in zip(found, truth, strict=True):
        metric.update(prediction, segments)
    assert metric.compute()["pq"] > 0.75


def drawn_segments(semantic: Map, objects: Objects) -> Segments:
    """The objects' segments, then those of the labels in ``semantic`` where no object is."""
    masks = cast("Map", objects.masks)
    semantic = np.where(masks.any(axis=0), 0, semantic)
    stuff = np.unique(semantic[semantic > 0])
    order = np.arange(1, 1 + len(masks), dtype=np.int32)
    ids = np.where(semantic > 0, len(masks) + 1 + np.searchsorted(stuff, semantic), np.tensordot(order, masks, 1))
    labels = np.concatenate([objects.labels - 1, stuff.astype(np.int64) - 1 + len(THINGS)])
    return Segments(ids.astype(np.int32), np.arange(1, len(labels) + 1), labels, np.zeros(len(labels), bool))
