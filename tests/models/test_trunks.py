"""Trunks: dilation rates that follow the features' stride."""

import math

import pytest
import torch
from torch import nn

from mfed_ray.models.normalisation import norm_layer
from mfed_ray.models.trunks import AsppTrunk, AtrousBlock, AtrousPyramid, LightTrunk, stride_ratio


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_ratio_is_exact_wherever_it_matters(output_stride: int) -> None:
    for height in range(1, 130):
        for width in (1, height, 2 * height + 1):
            fine, coarse = (
                torch.empty(1, 1, math.ceil(height / stride), math.ceil(width / stride))
                for stride in (4, output_stride)
            )
            if max(coarse.shape) > 1:
                assert stride_ratio(fine, coarse) == output_stride // 4, (height, width)


def test_atrous_block_reaches_its_rate() -> None:
    block = AtrousBlock(1, 1, nn.Identity)
    nn.init.constant_(block.conv.weight, 2.0)
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    expected = torch.zeros(9, 9)
    expected[1::3, 1::3] = 2
    assert torch.equal(block(impulse, 3)[0, 0], expected)


def test_pyramid_sees_the_same_image_area_at_every_output_stride() -> None:
    """Every second feature of a grid twice as fine gives every second output, image pooling aside."""
    torch.manual_seed(0)
    pyramid = AtrousPyramid(6, 4, norm_layer("average", "decoder")).double().eval()
    nn.init.zeros_(pyramid.pooling.weight)
    fine = torch.randn(1, 6, 31, 40, dtype=torch.float64)
    torch.testing.assert_close(pyramid(fine, 2)[:, :, ::2, ::2], pyramid(fine[:, :, ::2, ::2], 4))


@pytest.mark.parametrize(("ratio", "rates"), [(2, [12, 24, 36]), (4, [6, 12, 18]), (8, [3, 6, 9])])
def test_rates_are_deeplabs(ratio: int, rates: list[int]) -> None:
    trunk = AsppTrunk({"c2": 3, "c5": 5}, 4, norm_layer("group", "decoder"))
    called: list[int] = []
    for block in trunk.pyramid.atrous:
        block.register_forward_pre_hook(lambda _, inputs: called.append(inputs[1]))
    trunk({"c2": torch.randn(1, 3, 16, 24), "c5": torch.randn(1, 5, 16 // ratio, 24 // ratio)})
    assert called == rates


def test_image_pooling_is_the_mean_everywhere() -> None:
    pyramid = AtrousPyramid(2, 4, norm_layer("average", "decoder")).eval()
    weights = pyramid.state_dict()
    weights["pooling.weight"].fill_(0.5)
    weights["pooling.bias"].zero_()
    weights["project.0.weight"].zero_()[:, 16:] = 1.0
    c5 = torch.arange(12.0).reshape(1, 2, 2, 3)
    # channel means 2.5 and 8.5, halved and summed 5.5 in each of 4 channels, summed 22; BatchNorm's eps shrinks it
    torch.testing.assert_close(pyramid(c5, 4), torch.full((1, 4, 2, 3), 22 / math.sqrt(1 + 1e-5)))


def test_light_trunk_adds_every_stage() -> None:
    trunk = LightTrunk({"c2": 3, "c3": 5}, 4, norm_layer("average", "decoder")).eval()
    weights = trunk.state_dict()
    weights["projections.c2.0.weight"].fill_(1.0)
    weights["projections.c3.0.weight"].fill_(0.1)
    weights["refine.0.weight"].zero_()[range(4), range(4), 1, 1] = 1.0
    out = trunk({"c2": torch.ones(1, 3, 6, 4), "c3": torch.ones(1, 5, 3, 2)})
    # 3 channels of 1 and 5 of 0.1: 3.5 on the grid of c2; two BatchNorms shrink by their eps
    torch.testing.assert_close(out, torch.full((1, 4, 6, 4), 3.5 / (1 + 1e-5)))
