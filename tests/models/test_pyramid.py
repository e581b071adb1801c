"""The feature pyramid in the encoder and in a decoder; its anchors and its levels at sizes that no stride divides."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from mfed_ray.errors import ConfigError
from mfed_ray.models.contract import STAGES, Features
from mfed_ray.models.encoders import make_encoder
from mfed_ray.models.pyramid import (
    LEVELS,
    STRIDES,
    EncoderPyramid,
    FeaturePyramid,
    PyramidAnchors,
    PyramidEncoder,
    pyramid_for,
    region_pool,
)
from mfed_ray.models.settings import ModelSettings

CHANNELS = {"c2": 4, "c3": 6, "c4": 8, "c5": 10}


def constant_levels(height: int, width: int) -> Features:
    """Level k of an image, as large as an encoder makes it, is k throughout."""
    return {
        level: torch.full((1, 1, -(-height // stride), -(-width // stride)), float(level[1]))
        for level, stride in zip(LEVELS, STRIDES, strict=True)
    }


def test_the_encoders_pyramid_adds_levels_to_its_features() -> None:
    torch.manual_seed(0)
    body = make_encoder("resnet10", 32, None, "group")
    encoder = PyramidEncoder(body, 8, "group")
    images = torch.randn(2, 3, 65, 33)
    features = encoder(images)
    assert {name: feature.shape[1] for name, feature in features.items()} == encoder.channels
    assert [tuple(features[level].shape[2:]) for level in LEVELS] == [(17, 9), (9, 5), (5, 3), (3, 2), (2, 1)]
    assert all(torch.equal(features[stage], feature) for stage, feature in body(images).items())


def test_a_decoder_takes_the_encoders_pyramid_where_there_is_one() -> None:
    settings = ModelSettings(fpn_width=16, normalisation="average")
    own, shared = pyramid_for(CHANNELS, settings), pyramid_for({**CHANNELS, **dict.fromkeys(LEVELS, 8)}, settings)
    assert (type(own), own.width) == (FeaturePyramid, 16)
    assert (type(shared), shared.width, list(shared.parameters())) == (EncoderPyramid, 8, [])
    features = {**constant_levels(64, 64), "c2": torch.zeros(1)}
    assert list(shared(features).items()) == [(level, features[level]) for level in LEVELS]


def test_levels_add_up_from_the_top() -> None:
    """With identities for convolutions: p5 = c5, p4 = c4 + c5, p3 = c3 + p4 and so on, by nearest neighbour."""
    channels = dict.fromkeys(STAGES, 1)
    pyramid = FeaturePyramid(channels, 1, "average")
    for conv in (module for module in pyramid.modules() if isinstance(module, nn.Conv2d)):
        nn.init.dirac_(conv.weight)
    sides = zip(STAGES, (5, 3, 2, 1), (1.0, 10.0, 100.0, 1000.0), strict=True)
    levels = pyramid({stage: torch.full((1, 1, side, side), value) for stage, side, value in sides})
    expected = zip(LEVELS, (5, 3, 2, 1, 1), (1111.0, 1110.0, 1100.0, 1000.0, 1000.0), strict=True)
    assert list(levels) == list(LEVELS)
    assert all(torch.equal(levels[level], torch.full((1, 1, side, side), value)) for level, side, value in expected)


@pytest.mark.parametrize(("policy", "layers"), [("group", 8), ("average", 0), ("local", 0), ("frozen", 0)])
def test_only_the_policy_group_normalises(policy: str, layers: int) -> None:
    pyramid = FeaturePyramid(CHANNELS, 8, policy)
    kinds = [type(module) for module in pyramid.modules() if "Norm" in type(module).__name__.removesuffix("Activation")]
    assert [kind for kind in kinds if kind.__name__ != "Conv2dNormActivation"] == [nn.GroupNorm] * layers


def test_unknown_normalisation() -> None:
    with pytest.raises(ConfigError, match=r"model\.normalisation: unknown policy 'none', allowed: average"):
        FeaturePyramid(CHANNELS, 8, "none")


def test_output_stride_16_has_no_pyramid() -> None:
    """c5 of 64 pixels at output stride 16 is of 4 x 4 cells, as c4 is."""
    encoder = PyramidEncoder(make_encoder("resnet10", 16, None, "group"), 8, "group")
    message = (
        r"model\.output_stride: c5 has a grid of \(4, 4\) where c4 has \(4, 4\); "
        r"allowed for a feature pyramid: \(2, 2\), that is output stride 32"
    )
    with pytest.raises(ConfigError, match=message):
        encoder(torch.zeros(1, 3, 64, 64))


def anchors(size: float, height: int, width: int) -> Tensor:
    levels = list(constant_levels(height, width).values())
    first: Tensor = PyramidAnchors(size)(ImageList(levels[0], [(height, width)]), levels)[0]
    return first


def test_anchors_are_torchvisions_where_strides_divide() -> None:
    levels = list(constant_levels(128, 64).values())
    sizes, ratios = tuple((32 * 2**level,) for level in range(5)), ((0.5, 1.0, 2.0),) * 5
    reference = AnchorGenerator(sizes, ratios)(ImageList(torch.zeros(1, 3, 128, 64), [(128, 64)]), levels)
    assert torch.equal(anchors(32, 128, 64), reference[0])


def test_anchors_of_50_pixels_stay_on_their_cells() -> None:
    """13 x 13 cells of 4 pixels: the last cell's anchor is at 12 x 4 = 48 (50 // 13 = 3 would put it at 36)."""
    boxes = anchors(16, 50, 50)
    assert len(boxes) == 3 * (13**2 + 7**2 + 4**2 + 2**2 + 1)
    # the middle one of a cell's three is square
    assert boxes[1].tolist() == [-8, -8, 8, 8]
    assert boxes[3 * 13**2 - 2].tolist() == [40, 40, 56, 56]
    assert boxes[3 * 13**2 + 1].tolist() == [-16, -16, 16, 16]
    assert boxes[3 * (13**2 + 7**2) - 2].tolist() == [48 - 16, 48 - 16, 48 + 16, 48 + 16]


@pytest.mark.parametrize(("height", "width"), [(33, 35), (50, 97), (427, 640)])
def test_regions_are_pooled_where_they_lie(height: int, width: int) -> None:
    """p2 holds each cell's x in pixels: a box's features are the x of its parts' middles, whatever the image's size."""
    levels = dict(constant_levels(height, width))
    levels["p2"] = (4.0 * torch.arange(levels["p2"].shape[3])).expand(1, 1, levels["p2"].shape[2], -1)
    pooled = region_pool(2, 32)(levels, [torch.tensor([[4.0, 8.0, 20.0, 24.0]])], [(height, width)])
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[8.0, 16.0], [8.0, 16.0]]))


@pytest.mark.parametrize("anchor_size", [32, 8])
def test_larger_regions_come_from_higher_levels(anchor_size: int) -> None:
    """At anchors of 32 pixels, p4 serves boxes of 224 up to 448 pixels, and so on by twos."""
    sides = torch.tensor([10.0, 111, 112, 223, 224, 447, 448, 600]) * anchor_size / 32
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    size = 20 * anchor_size
    pooled = region_pool(1, anchor_size)(constant_levels(size, size), [boxes], [(size, size)])
    assert pooled.flatten().tolist() == [2, 2, 3, 3, 4, 4, 5, 5]
