"""The algorithme à trous is exact: every s-th dilated feature is the strided network's feature."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from mfed_ray.models.dilation import dilate
from mfed_ray.models.encoders import make_encoder


def randomise_statistics(model: nn.Module) -> None:
    """Statistics that differ by channel, so that a normalisation out of place would show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
@pytest.mark.parametrize(("output_stride", "stages"), [(8, {"c4": 2, "c5": 4}), (16, {"c5": 2})])
def test_every_sth_dilated_feature_is_the_strided_one(name: str, output_stride: int, stages: dict[str, int]) -> None:
    torch.manual_seed(0)
    strided = make_encoder(name, 32, None, "average").double().eval()
    randomise_statistics(strided)
    dilated = make_encoder(name, output_stride, None, "average").double().eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 97, 130, dtype=torch.float64)
    with torch.no_grad():
        coarse, fine = strided(images), dilated(images)
    for stage, step in stages.items():
        torch.testing.assert_close(fine[stage][:, :, ::step, ::step], coarse[stage])


def test_bottlenecks_agree_with_torchvision() -> None:
    torch.manual_seed(0)
    reference = ResNet(Bottleneck, [1, 1, 2, 2], replace_stride_with_dilation=[False, True, True]).eval()
    ours = ResNet(Bottleneck, [1, 1, 2, 2]).eval()
    ours.load_state_dict(reference.state_dict())
    dilate([ours.layer3, ours.layer4])
    images = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(ours(images), reference(images))


@pytest.mark.parametrize("dilated", [False, True])
def test_basic_block_reaches_three_pixels(dilated: bool) -> None:
    """3x3 then 3x3 of twice the spacing: 1 + 2 = 3 input pixels to each side, strided or dilated."""
    block: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1]).layer2[0].eval()
    if dilated:
        dilate([block])
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)  # positive weights and inputs: no contribution cancels
    inputs = torch.ones(1, 64, 17, 17, requires_grad=True)
    out = block(inputs)
    assert out.shape[2] == (17 if dilated else 9)
    middle = out.shape[2] // 2
    (gradient,) = torch.autograd.grad(out[0, 0, middle, middle], inputs)
    assert gradient[0, 0].any(dim=0).nonzero().flatten().tolist() == [5, 6, 7, 8, 9, 10, 11]
