"""The feature pyramid (Lin et al., CVPR 2017), in the encoder or in a decoder, and the geometry of its levels.

Every stage's grid has ceil(size / stride) cells, whatever the image's size: nothing is padded to a multiple of 32.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import LevelMapper

from mfed_ray.errors import ConfigError
from mfed_ray.models.contract import STAGES, Encoder, Features
from mfed_ray.models.normalisation import NormLayer, check_policy, group_norm
from mfed_ray.models.settings import ModelSettings

LEVELS = ("p2", "p3", "p4", "p5", "p6")
STRIDES = (4, 8, 16, 32, 64)
"""Pixels of the image a cell of each level is apart from the next."""

ASPECT_RATIOS = (0.5, 1.0, 2.0)


def optional_norm(policy: str) -> NormLayer | None:
    """What normalises the pyramid and convolutional heads: GroupNorm under `group`, else None.

    Without normalisation is Mask R-CNN's standard; GroupNorm is what training from random weights takes (Wu & He,
    ECCV 2018, section 4.2). Raises ConfigError for an unknown policy.
    """
    check_policy(policy)
    return group_norm if policy == "group" else None


def detector_policy(settings: ModelSettings) -> str:
    """The normalisation policy of the pyramid and of detectors' heads."""
    return settings.detector_normalisation or settings.normalisation


class FeaturePyramid(nn.Module):
    """c2..c5 to p2..p6 of ``width`` channels; p6 is p5 subsampled. See ``optional_norm`` for the policy."""

    def __init__(self, channels: Mapping[str, int], width: int, normalisation: str) -> None:
        super().__init__()
        self.width = width
        self.network = FeaturePyramidNetwork(
            [channels[stage] for stage in STAGES], width, LastLevelMaxPool(), optional_norm(normalisation)
        )

    def forward(self, features: Features) -> Features:
        """p2 to p6, [B, width, h, w]. Raises ConfigError where c5 has another stride than 32."""
        _check_strides(features)
        levels = self.network({stage: features[stage] for stage in STAGES})
        return dict(zip(LEVELS, levels.values(), strict=True))


class EncoderPyramid(nn.Module):
    """p2..p6 as the encoder gives them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Features) -> Features:
        """p2 to p6 of all features."""
        return {level: features[level] for level in LEVELS}


class PyramidEncoder(Encoder):
    """An encoder (``body``) whose features also hold the pyramid's: it is shared by all clients."""

    def __init__(self, body: Encoder, width: int, normalisation: str) -> None:
        super().__init__()
        self.body = body
        self.pyramid = FeaturePyramid(body.channels, width, normalisation)
        self.channels = {**body.channels, **dict.fromkeys(LEVELS, width)}

    def forward(self, images: Tensor) -> Features:
        """c2..c5 and p2..p6 of normalised images, float [B, 3, H, W]."""
        features = self.body(images)
        return {**features, **self.pyramid(features)}


def pyramid_for(channels: Mapping[str, int], settings: ModelSettings) -> FeaturePyramid | EncoderPyramid:
    """What a decoder takes p2..p6 from: the encoder where it has them, else a pyramid of the decoder's own."""
    if LEVELS[0] in channels:
        return EncoderPyramid(channels[LEVELS[0]])
    return FeaturePyramid(channels, settings.fpn_width, detector_policy(settings))


class PyramidAnchors(nn.Module):
    """Anchors of three aspect ratios on every cell of p2..p6, of ``size`` on p2 and twice that from level to level.

    torchvision's generator, but for the strides: it divides the image's size by the grid's, 50 // 13 = 3.
    """

    def __init__(self, size: float) -> None:
        super().__init__()
        sizes = tuple((size * 2**level,) for level in range(len(LEVELS)))
        self.generator = AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(LEVELS))

    def forward(self, images: ImageList, levels: Sequence[Tensor]) -> list[Tensor]:
        """Boxes [A, 4] of each image: level by level, row by row, cell by cell."""
        self.generator.set_cell_anchors(levels[0].dtype, levels[0].device)
        grids = [level.shape[2:] for level in levels]
        anchors = torch.cat(self.generator.grid_anchors(grids, [(stride, stride) for stride in STRIDES]))
        return [anchors] * len(images.image_sizes)


def region_pool(cells: int, anchor_size: float) -> MultiScaleRoIAlign:
    """RoIAlign of boxes to ``cells`` x ``cells`` features from p2..p5 by the boxes' size.

    A box of side 7 x ``anchor_size`` (224 at the standard 32) is taken from p4. The scales are set: torchvision would
    infer them from the first images, and 2 cells for 33 pixels pass for stride 16.
    """
    count = len(STAGES)
    pool = MultiScaleRoIAlign(list(LEVELS[:count]), cells, sampling_ratio=2)
    pool.scales = [1 / stride for stride in STRIDES[:count]]
    pool.map_levels = LevelMapper(2, 5, canonical_scale=7 * anchor_size)
    return pool


def _check_strides(features: Features) -> None:
    for fine, coarse in pairwise(STAGES):
        grid, found = features[fine].shape[2:], tuple(features[coarse].shape[2:])
        halved = tuple(-(-side // 2) for side in grid)
        if found != halved:
            raise ConfigError(
                f"model.output_stride: {coarse} has a grid of {found} where {fine} has {tuple(grid)}; "
                f"allowed for a feature pyramid: {halved}, that is output stride 32"
            )
