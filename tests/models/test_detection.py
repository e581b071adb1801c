"""Mask R-CNN and Keypoint R-CNN: torchvision's, but for the masks; in original coordinates; without objects."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import keypointrcnn_resnet50_fpn, maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from mfed_ray.annotations import Detections
from mfed_ray.models.contract import STAGES, Decoder, Features
from mfed_ray.models.detection import KeypointRCNN, MaskRCNN, scale_boxes
from mfed_ray.models.pyramid import LEVELS
from mfed_ray.models.settings import ModelSettings

CHANNELS = {"c2": 4, "c3": 6, "c4": 8, "c5": 10}
RESNET50 = {"c2": 256, "c3": 512, "c4": 1024, "c5": 2048}
TINY = ModelSettings(decoder_width=8, fpn_width=8, anchor_size=8, normalisation="group", score_threshold=0.0)
BOTH = pytest.mark.parametrize("make", [MaskRCNN, KeypointRCNN])
MakeDecoder = Callable[[dict[str, int], ModelSettings], Decoder]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def random_features(channels: dict[str, int], batch: int, height: int, width: int) -> Features:
    strides = zip(STAGES, (4, 8, 16, 32), strict=True)
    grids = {stage: (-(-height // stride), -(-width // stride)) for stage, stride in strides}
    return {stage: torch.randn(batch, channels[stage], *grid) for stage, grid in grids.items()}


def objects(boxes: list[list[float]], height: int, width: int) -> dict[str, Tensor]:
    """Persons with all that either model learns of them: masks and keypoints that fill their boxes."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    shares = torch.linspace(0.05, 0.95, 17)[None, :, None]
    points = corners[:, None, :2] + shares * (corners[:, None, 2:] - corners[:, None, :2])
    keypoints = torch.cat([points, torch.full((len(boxes), 17, 1), 2.0)], dim=2)
    return {
        "boxes": corners,
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
        "keypoints": keypoints,
    }


def same_weights(decoder: nn.Module, reference: nn.Module, branch: str) -> None:
    """Load torchvision's parameters into a decoder's; all of them are used, and no other."""
    places = {
        "backbone.fpn.": "pyramid.network.",
        "rpn.": "detector.proposals.",
        f"roi_heads.{branch}_head.": "detector.branch.head.",
        f"roi_heads.{branch}_predictor.": "detector.branch.predictor.",
        "roi_heads.": "detector.boxes.",
    }
    state = {}
    for name, value in reference.state_dict().items():
        prefix = next((prefix for prefix in places if name.startswith(prefix)), None)
        if prefix:
            state[places[prefix] + name.removeprefix(prefix)] = value
    decoder.load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "build", "branch", "classes"),
    [(MaskRCNN, maskrcnn_resnet50_fpn, "mask", 81), (KeypointRCNN, keypointrcnn_resnet50_fpn, "keypoint", 2)],
)
def test_equal_to_torchvision_at_the_standard_widths(
    make: MakeDecoder, build: Callable[..., nn.Module], branch: str, classes: int
) -> None:
    """All losses and detections from the same weights and features, but the masks, which stand half a pixel apart."""
    size = (64, 128)
    decoder = make(RESNET50, ModelSettings(score_threshold=0.0, max_detections=3, normalisation="average"))
    reference = build(
        weights=None, weights_backbone=None, num_classes=classes, box_score_thresh=0.0, box_detections_per_img=3
    )
    same_weights(decoder, reference, branch)
    features = random_features(RESNET50, 1, *size)
    targets = [objects([[8, 4, 40, 60]], *size)]
    images = ImageList(torch.zeros(1, 3, *size), [size])
    with torch.no_grad():
        levels = reference.backbone.fpn(OrderedDict(zip("0123", features.values(), strict=True)))  # type: ignore[union-attr, operator]
        torch.manual_seed(1)
        proposals, expected = reference.train().rpn(images, levels, targets)  # type: ignore[operator]
        expected |= reference.roi_heads(levels, proposals, [size], targets)[1]  # type: ignore[operator]
        torch.manual_seed(1)
        losses = decoder.losses(features, targets, size)
        proposals, _ = reference.eval().rpn(images, levels)  # type: ignore[operator]
        (wanted,), _ = reference.roi_heads(levels, proposals, [size])  # type: ignore[operator]
        (found,) = decoder.predict(features, size, size)
    names = ["objectness", "rpn_box_reg", "classifier", "box_reg", branch]
    wanted_losses = [expected[f"loss_{name}"].item() for name in names]
    assert list(losses) == ["objectness", "rpn_box", "classification", "box", branch]
    assert [loss.item() for loss in losses.values()][:4] == pytest.approx(wanted_losses[:4], rel=1e-5)
    assert losses[branch].item() == pytest.approx(wanted_losses[4], rel=1e-5 if branch == "keypoint" else 1e-2)
    assert isinstance(found, Detections)
    np.testing.assert_allclose(found.boxes, wanted["boxes"], atol=1e-4)
    np.testing.assert_allclose(found.scores, wanted["scores"], atol=1e-6)
    np.testing.assert_array_equal(found.labels, wanted["labels"])
    if found.keypoints is not None:
        np.testing.assert_allclose(found.keypoints, wanted["keypoints"], atol=1e-4)


@BOTH
def test_images_without_objects_train(make: MakeDecoder) -> None:
    decoder = make(CHANNELS, TINY)
    losses = decoder.losses(random_features(CHANNELS, 2, 50, 97), [objects([], 50, 97)] * 2, (50, 97))
    torch.autograd.backward(list(losses.values()))
    values = {name: loss.item() for name, loss in losses.items()}
    assert values["objectness"] == pytest.approx(np.log(2), abs=0.05)
    assert values["rpn_box"] == values["box"] == list(values.values())[-1] == 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in decoder.parameters())


@BOTH
def test_images_with_and_without_objects_train_together(make: MakeDecoder) -> None:
    decoder = make(CHANNELS, TINY)
    targets = [objects([], 50, 97), objects([[10, 10, 40, 45]], 50, 97)]
    losses = decoder.losses(random_features(CHANNELS, 2, 50, 97), targets, (50, 97))
    torch.autograd.backward(list(losses.values()))
    assert all(0 < loss.item() < 20 for loss in losses.values())
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in decoder.parameters())


@BOTH
def test_neither_losses_nor_predictions_depend_on_the_mode(make: MakeDecoder) -> None:
    decoder = make(CHANNELS, TINY)
    features, targets = random_features(CHANNELS, 1, 50, 97), [objects([[10, 10, 40, 45]], 50, 97)]
    outcomes = []
    for mode in (True, False):
        torch.manual_seed(1)
        losses = decoder.train(mode).losses(features, targets, (50, 97))
        found = decoder.train(mode).predict(features, (50, 97), (50, 97))[0]
        assert isinstance(found, Detections)
        outcomes.append(([loss.item() for loss in losses.values()], found.boxes.tolist()))
    assert outcomes[0] == outcomes[1]


@BOTH
def test_nothing_found(make: MakeDecoder) -> None:
    settings = TINY.model_copy(update={"score_threshold": 1.0})  # no object's score is above
    decoder = make(CHANNELS, settings)
    for found in decoder.predict(random_features(CHANNELS, 2, 50, 97), (50, 97), (30, 40)):
        assert isinstance(found, Detections)
        assert found.size == (30, 40)
        described = found.masks if make is MaskRCNN else found.keypoints
        assert described is not None
        shapes = {(0, 4): found.boxes, (0,): found.scores, (0, 30, 40) if make is MaskRCNN else (0, 17, 3): described}
        assert all(array.shape == shape for shape, array in shapes.items())
        names = [array.dtype.name for array in (found.boxes, found.scores, found.labels, described)]
        assert names == ["float32", "float32", "int64", "uint8" if make is MaskRCNN else "float32"]


@BOTH
def test_predictions_are_in_original_coordinates(make: MakeDecoder) -> None:
    """An image of 50 x 97 that was one of 150 x 194: y three times, x twice as large, in or at the image's edges."""
    decoder = make(CHANNELS, TINY)
    features = random_features(CHANNELS, 1, 50, 97)
    (seen,), (whole,) = (decoder.predict(features, (50, 97), original) for original in ((50, 97), (150, 194)))
    assert isinstance(seen, Detections)
    assert isinstance(whole, Detections)
    assert len(whole.scores) == 100
    assert (np.diff(whole.scores) <= 0).all()
    np.testing.assert_allclose(whole.boxes, seen.boxes * [2, 3, 2, 3], atol=1e-3)
    assert (whole.boxes >= 0).all()
    assert (whole.boxes <= [194, 150, 194, 150]).all()
    np.testing.assert_array_equal(whole.labels, seen.labels)
    left, top, right, bottom = whole.boxes.T[..., None]
    if make is MaskRCNN:
        assert whole.masks is not None
        columns = whole.masks.any(axis=1) * (np.arange(194) + 0.5)
        assert whole.masks.shape == (100, 150, 194)
        assert (columns.max(axis=1, keepdims=True) < right).all()
    else:
        assert whole.keypoints is not None
        x, y, visibility = np.moveaxis(whole.keypoints, -1, 0)
        assert ((left < x) & (x < right) & (top < y) & (y < bottom) & (visibility == 1)).all()


def test_boxes_are_scaled_and_cut() -> None:
    """From 50 x 97 to 100 x 97: y twice as large; 97.001 and 100.2 are cut at the edges."""
    boxes = scale_boxes(torch.tensor([[-0.5, 10.0, 97.001, 50.1]]), (50, 97), (100, 97))
    assert boxes.tolist() == [[0, 20, 97, 100]]


@BOTH
def test_a_decoder_on_the_encoders_pyramid_has_none_of_its_own(make: MakeDecoder) -> None:
    decoder = make({**CHANNELS, **dict.fromkeys(LEVELS, 8)}, TINY)
    assert {name.split(".")[0] for name, _ in decoder.named_parameters()} == {"detector"}


@pytest.mark.parametrize(("make", "convolution"), [(MaskRCNN, 16), (KeypointRCNN, 32)])
def test_widths_scale(make: MakeDecoder, convolution: int) -> None:
    shapes = {
        name: tuple(value.shape)
        for name, value in make(CHANNELS, ModelSettings(decoder_width=16, normalisation="average")).named_parameters()
    }
    assert shapes["detector.boxes.box_head.fc7.weight"] == (64, 64)
    assert shapes["detector.boxes.box_head.fc6.weight"] == (64, 256 * 49)
    heads = {shape[0] for name, shape in shapes.items() if name.startswith("detector.branch.head")}
    assert heads == {convolution}
