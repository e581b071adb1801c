"""A tiny model learns four drawn images by heart: wrong targets, scales, boxes or masks show in the score.

Predictions are judged by the project's metrics in the images' own pixels, which are not always those that the network
sees.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from mfed_ray.annotations import Detections, Objects, Prediction, Segments
from mfed_ray.coco_categories import SKELETON, STUFF, THINGS
from mfed_ray.data.object_geometry import resize_objects
from mfed_ray.data.resampling import nearest
from mfed_ray.metrics.coco_objects import CocoObjects
from mfed_ray.metrics.panoptic_quality import PanopticQuality
from mfed_ray.metrics.segmentation import MeanIoU
from mfed_ray.models.contract import BatchTarget, Decoder, DecoderSettings, PanopticMerge
from mfed_ray.models.detection import KeypointRCNN, MaskRCNN
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.panoptic import PanopticFPN
from mfed_ray.models.pyramid import PyramidEncoder
from mfed_ray.models.semantic_fpn import SemanticFPN

Size = tuple[int, int]
Image = NDArray[np.float32]
Map = NDArray[np.uint8]
MakeDecoder = Callable[[Mapping[str, int], DecoderSettings], Decoder]

IMAGES = range(4)
STEPS = 100
LR = 5e-3
SAMPLES = 48
SKY, GRASS, WATER = 40, 46, 34
"""1 + index among the merged stuff classes."""
DISC, BOX, TRIANGLE = 1, 10, 80
"""Labels of things."""
POSE = np.array(
    [(50, 6), (55, 3), (45, 3), (61, 6), (39, 6), (72, 22), (28, 22), (86, 38), (14, 38), (97, 52), (3, 52), (63, 54),
     (37, 54), (67, 76), (33, 76), (70, 97), (30, 97)]
)  # fmt: skip
"""Where a person's 17 keypoints lie, in percent of the box."""
SETTINGS = DecoderSettings(
    width=16, normalisation="group", pyramid_width=16, anchor_size=10, panoptic=PanopticMerge(stuff_area=64)
)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def landscape(number: int, size: Size) -> tuple[Image, Map]:
    """Sky over grass with a strip of water between them."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]]
    horizon = size[0] * rng.uniform(0.3, 0.6) + columns * rng.uniform(-0.1, 0.1)
    semantic = np.where(rows < horizon, SKY, np.where(rows < horizon + 15, WATER, GRASS)).astype(np.uint8)
    image = np.zeros((*size, 3), np.float32)
    for label, colour in ((SKY, (0.4, 0.6, 0.9)), (WATER, (0.1, 0.2, 0.6)), (GRASS, (0.2, 0.6, 0.2))):
        image[semantic == label] = colour
    return image, semantic


def place_shapes(number: int, image: Image) -> Objects:
    """Draw a disc, a box and a triangle side by side."""
    rng = np.random.default_rng(100 + number)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    masks = []
    labels = rng.permutation([DISC, BOX, TRIANGLE])
    for third, label in enumerate(labels):
        middle, radius = (third + 0.5) * image.shape[1] / 3, rng.uniform(9, 15)
        across, down = np.abs(columns - middle), np.abs(rows - image.shape[0] * rng.uniform(0.3, 0.7))
        reach = {DISC: np.hypot(across, down), BOX: np.maximum(across, down * 1.3), TRIANGLE: across + down}[label]
        image[reach < radius] = rng.uniform(0.7, 1.0) * np.array(
            {DISC: (1, 0, 0), BOX: (1, 1, 0), TRIANGLE: (1, 0, 1)}[label]
        )
        masks.append((reach < radius).astype(np.uint8))
    boxes = np.array([tight_box(mask) for mask in masks], np.float32)
    areas = np.array([mask.sum() for mask in masks], np.float32)
    return Objects(image.shape[:2], boxes, labels, areas, np.zeros(3, bool), np.stack(masks))


def tight_box(mask: Map) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def place_people(number: int, image: Image) -> Objects:
    """Draw two people, each limb in a colour of its own."""
    rng = np.random.default_rng(200 + number)
    places = np.stack(np.mgrid[: image.shape[0], : image.shape[1]][::-1], axis=-1) + 0.5
    boxes, keypoints = [], []
    for half in range(2):
        extent = np.array([rng.uniform(30, 48), rng.uniform(55, 80)])
        corner = np.array([half * image.shape[1] / 2 + rng.uniform(2, 12), rng.uniform(2, image.shape[0] - 82)])
        joints = corner + POSE / 100 * extent
        for limb, (start, end) in enumerate(SKELETON):
            begin, along = joints[start], joints[end] - joints[start]
            share = ((places - begin) @ along / (along @ along)).clip(0, 1)
            near = np.hypot(*np.moveaxis(places - begin - share[..., None] * along, -1, 0)) < 1.5
            image[near] = np.random.default_rng(limb).uniform(0, 1, 3)
        boxes.append([*corner, *(corner + extent)])
        keypoints.append(np.column_stack([joints, np.full(17, 2)]))
    sides = np.array(boxes, np.float32)
    areas = 0.5 * (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    return Objects(
        image.shape[:2],
        sides,
        np.ones(2, np.int64),
        areas,
        np.zeros(2, bool),
        keypoints=np.array(keypoints, np.float32),
    )


def resize_images(images: list[Image], size: Size) -> Tensor:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return F.interpolate(batch, size=size, mode="bilinear", antialias=True) * 4 - 2


def train_target(objects: Objects, size: Size) -> dict[str, Tensor]:
    resized = resize_objects(objects, size)
    arrays = {"boxes": resized.boxes, "labels": resized.labels, "masks": resized.masks, "keypoints": resized.keypoints}
    return {key: torch.from_numpy(each.copy()) for key, each in arrays.items() if each is not None}


def learn(
    make: MakeDecoder, images: Tensor, targets: BatchTarget, original: Size, steps: int, encoder_pyramid: bool = False
) -> list[Prediction]:
    """Predictions of images [B, 3, H, W], whose own size is ``original``, by a model fitted to them."""
    encoder = make_encoder("resnet10", 32, None, "group")
    if encoder_pyramid:
        encoder = PyramidEncoder(encoder, SETTINGS.pyramid_width, "group")
    decoder = make(encoder.channels, SETTINGS)
    for module in decoder.modules():
        if isinstance(module, RoIHeads):
            module.fg_bg_sampler.batch_size_per_image = 48
    size = (images.shape[2], images.shape[3])
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps)
    for step in range(steps):
        half = slice(0, 2) if step % 2 else slice(2, 4)
        losses = decoder.losses(encoder(images[half]), targets[half], size)
        optimiser.zero_grad()
        torch.autograd.backward(list(losses.values()))
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return decoder.eval().predict(encoder(images), size, original)


def score_objects(kind, found: list[Prediction], truth: list[Objects]) -> dict[str, float]:
    metric = CocoObjects(kind)
    for prediction, target in zip(found, truth, strict=True):
        metric.update(cast("Detections", prediction), target)
    return metric.compute()


def test_masks_of_resized_images() -> None:
    original, size = (96, 128), (72, 96)
    images = [landscape(number, original)[0] for number in IMAGES]
    truth = [place_shapes(number, image) for number, image in enumerate(images)]
    targets = [train_target(objects, size) for objects in truth]
    values = score_objects("mask", learn(MaskRCNN, resize_images(images, size), targets, original, STEPS), truth)
    print(values)
    assert values["mask_ap75"] > 0.9


def test_keypoints_of_resized_images_of_odd_sizes() -> None:
    original, size = (97, 125), (77, 101)
    images = [landscape(number, original)[0] for number in IMAGES]
    truth = [place_people(number, image) for number, image in enumerate(images)]
    targets = [train_target(objects, size) for objects in truth]
    values = score_objects(
        "keypoint", learn(KeypointRCNN, resize_images(images, size), targets, original, STEPS), truth
    )
    print(values)
    assert values["keypoint_ap"] > 0.9


def test_stuff_of_odd_sizes() -> None:
    size = (97, 125)
    images, truth = zip(*(landscape(number, size) for number in IMAGES), strict=True)
    labels = torch.from_numpy(np.stack(truth)).long()
    found = learn(
        lambda channels, settings: SemanticFPN(channels, settings, len(STUFF)),
        resize_images(images, size),
        labels,
        size,
        STEPS,
    )
    metric = MeanIoU(len(STUFF))
    for prediction, target in zip(found, truth, strict=True):
        metric.update(prediction, target)
    print(metric.compute()["miou"])
    assert metric.compute()["miou"] > 0.9


def test_panoptic_segments_of_resized_images() -> None:
    original, size = (96, 128), (75, 99)
    scenes = [landscape(number, original) for number in IMAGES]
    objects = [place_shapes(number, image) for number, (image, _) in enumerate(scenes)]
    targets = []
    for (_, semantic), each in zip(scenes, objects, strict=True):
        covered = np.where(each.masks.any(axis=0), 0, semantic)
        targets.append({**train_target(each, size), "semantic": torch.from_numpy(nearest(covered, size)).long()})
    found = learn(PanopticFPN, resize_images([image for image, _ in scenes], size), targets, original, STEPS, True)
    metric = PanopticQuality()
    for prediction, (_, semantic), each in zip(found, scenes, objects, strict=True):
        metric.update(prediction, segments_of(semantic, each))
    print({k: v for k, v in metric.compute().items() if v == v})
    assert metric.compute()["pq"] > 0.9


def segments_of(semantic: Map, objects: Objects) -> Segments:
    """Stuff segments 1.., each of a class, then the objects'."""
    classes = np.unique(semantic)
    ids = np.searchsorted(classes, semantic).astype(np.int32) + 1
    for number, mask in enumerate(objects.masks):
        ids[mask > 0] = len(classes) + 1 + number
    labels = np.concatenate([classes.astype(np.int64) + len(THINGS) - 1, objects.labels - 1])
    return Segments(ids, np.arange(1, len(labels) + 1), labels, np.zeros(len(labels), bool))
