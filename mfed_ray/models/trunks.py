"""Bodies of the dense decoders: encoder features to ``width`` channels on the grid of c2."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfed_ray.models.contract import STAGES, Features
from mfed_ray.models.normalisation import NormLayer

LOW_LEVEL_WIDTH = 48
"""Channels that c2 is reduced to beside the pyramid's ``width`` (DeepLabV3+, section 4.1)."""

ATROUS_REACH = (24, 48, 72)
"""Reach of the pyramid's dilated kernels in cells of c2: the rates 6, 12, 18 at output stride 16."""


def conv_block(inputs: int, outputs: int, kernel: int, norm: NormLayer) -> nn.Sequential:
    """Convolution of the same output size, normalisation, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, norm(outputs), nn.ReLU(inplace=True))


def resize(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear interpolation of [B, C, h, w] to ``size`` = (H, W), corners not aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def stride_ratio(fine: Tensor, coarse: Tensor) -> int:
    """How many cells of ``fine`` one cell of ``coarse`` spans along a side: a power of two.

    Grids round up, so the quotient of two sides lies above half the ratio and at most at it, unless the coarse side
    is 1; a map of 1x1 has no neighbours that a wrong ratio could reach.
    """
    quotients = (-(-fine.shape[axis] // coarse.shape[axis]) for axis in (2, 3))
    return 1 << (max(quotients) - 1).bit_length()


class AtrousBlock(nn.Module):
    """A 3x3 convolution, dilated by what the call says, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: NormLayer) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, bias=False)
        self.norm = norm(outputs)

    def forward(self, x: Tensor, rate: int) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h, w]."""
        out: Tensor = self.norm(F.conv2d(x, self.conv.weight, padding=rate, dilation=rate))
        return out.relu()


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling with image pooling (DeepLabV3, arXiv 1706.05587, section 3.3).

    The image-pooling branch is not normalised: it has one value a channel and image, of which a batch of one image
    has no variance.
    """

    def __init__(self, inputs: int, width: int, norm: NormLayer) -> None:
        super().__init__()
        self.pointwise = conv_block(inputs, width, 1, norm)
        self.atrous = nn.ModuleList(AtrousBlock(inputs, width, norm) for _ in ATROUS_REACH)
        self.pooling = nn.Conv2d(inputs, width, 1)
        self.project = conv_block(width * (2 + len(ATROUS_REACH)), width, 1, norm)

    def forward(self, c5: Tensor, ratio: int) -> Tensor:
        """[B, inputs, h, w] to [B, width, h, w]; ``ratio``: the cells of c2 along a side of a cell of c5."""
        pooled = self.pooling(c5.mean(dim=(2, 3), keepdim=True)).relu().expand(-1, -1, *c5.shape[2:])
        rates = [max(1, reach // ratio) for reach in ATROUS_REACH]
        branches = [block(c5, rate) for block, rate in zip(self.atrous, rates, strict=True)]
        out: Tensor = self.project(torch.cat([self.pointwise(c5), *branches, pooled], dim=1))
        return out


class AsppTrunk(nn.Module):
    """DeepLabV3+ (Chen et al., ECCV 2018): the pyramid on c5, refined with c2 by two 3x3 convolutions.

    The dilation rates follow the output stride that the features show: 12, 24, 36 at 8; 6, 12, 18 at 16; 3, 6, 9
    at 32.
    """

    def __init__(self, channels: Mapping[str, int], width: int, norm: NormLayer) -> None:
        super().__init__()
        self.pyramid = AtrousPyramid(channels["c5"], width, norm)
        self.low_level = conv_block(channels["c2"], LOW_LEVEL_WIDTH, 1, norm)
        self.refine = nn.Sequential(
            conv_block(width + LOW_LEVEL_WIDTH, width, 3, norm), conv_block(width, width, 3, norm)
        )

    def forward(self, features: Features) -> Tensor:
        """Features c2 and c5 to [B, width, h, w] on the grid of c2."""
        c2, c5 = features["c2"], features["c5"]
        context = self.pyramid(c5, stride_ratio(c2, c5))
        out: Tensor = self.refine(torch.cat([resize(context, c2.shape[2:]), self.low_level(c2)], dim=1))
        return out


class LightTrunk(nn.Module):
    """1x1 projections of c2..c5, summed on the grid of c2, and one 3x3 convolution."""

    def __init__(self, channels: Mapping[str, int], width: int, norm: NormLayer) -> None:
        super().__init__()
        self.projections = nn.ModuleDict(
            {
                stage: nn.Sequential(nn.Conv2d(channels[stage], width, 1, bias=False), norm(width))
                for stage in STAGES
                if stage in channels
            }
        )
        self.refine = conv_block(width, width, 3, norm)

    def forward(self, features: Features) -> Tensor:
        """Features of all stages to [B, width, h, w] on the grid of c2."""
        size = features["c2"].shape[2:]
        projected = [resize(project(features[stage]), size) for stage, project in self.projections.items()]
        out: Tensor = self.refine(torch.stack(projected).sum(dim=0).relu())
        return out


TRUNKS: Mapping[str, Callable[[Mapping[str, int], int, NormLayer], nn.Module]] = {
    "aspp": AsppTrunk,
    "light": LightTrunk,
}
"""Constructors by style, called with the encoder's channels, the width and the normalisation layer."""
