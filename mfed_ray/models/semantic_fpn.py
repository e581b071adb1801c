"""The semantic branch of Panoptic FPN (Kirillov et al., CVPR 2019, arXiv 1901.02446, section 3)."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mfed_ray.annotations import Prediction
from mfed_ray.models.contract import BatchTarget, Decoder, Features
from mfed_ray.models.decoders import CLASSIFIER_STD
from mfed_ray.models.losses import cross_entropy
from mfed_ray.models.normalisation import group_norm
from mfed_ray.models.pyramid import LEVELS, STRIDES, pyramid_for
from mfed_ray.models.settings import ModelSettings
from mfed_ray.models.trunks import conv_block

_BYTES = 2**26
"""Of enlarged logits held at once, or one class's where that is more: 92 classes of 12 megapixels would take 4.5 GB."""


class SemanticBranch(nn.Module):
    """p2..p5 to logits of ``classes`` on the grid of p2.

    Each level goes through stages of a 3x3 convolution, GroupNorm, ReLU and bilinear upsampling by two until it is on
    p2's grid (p2 itself through one without upsampling); they are summed. GroupNorm under every policy, as in the
    paper.
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(conv_block(inputs if stage == 0 else width, width, 3, group_norm) for stage in range(count))
            for count in (1, 1, 2, 3)
        )
        self.classifier = nn.Conv2d(width, classes, 1)
        for conv in (module for module in self.paths.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
        nn.init.constant_(cast("Tensor", self.classifier.bias), 0.0)

    def forward(self, levels: Features) -> Tensor:
        """Logits [B, classes, h, w]."""
        logits: Tensor = self.classifier(sum(self._lift(levels, depth) for depth in range(len(self.paths))))
        return logits

    def _lift(self, levels: Features, depth: int) -> Tensor:
        """The level ``depth`` below p2 on the grid of p2."""
        x = levels[LEVELS[depth]]
        for step, block in enumerate(cast("nn.ModuleList", self.paths[depth]), start=1):
            x = block(x)
            if depth:
                x = enlarge(x, (2, 2), levels[LEVELS[depth - step]].shape[2:])
        return x


class SemanticFPN(Decoder):
    """One of ``classes`` for every pixel, by a semantic branch of half the settings' width (128 at 256)."""

    def __init__(self, channels: Mapping[str, int], settings: ModelSettings, classes: int) -> None:
        super().__init__()
        self.pyramid = pyramid_for(channels, settings)
        self.branch = SemanticBranch(self.pyramid.width, settings.decoder_width // 2, classes)

    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        """``cross_entropy`` with labels int64 [B, H, W], 255 void."""
        logits = self.branch(self.pyramid(features))
        return {"cross_entropy": semantic_loss(logits, cast("Tensor", targets), size)}

    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        """The class of every pixel, uint8 [H, W]."""
        return list(semantic_maps(self.branch(self.pyramid(features)), size, original))


def semantic_loss(logits: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Cross-entropy of logits on p2's grid with labels int64 [B, H, W] of images of ``size``; 255 is void."""
    return cross_entropy(enlarge(logits, (STRIDES[0], STRIDES[0]), size), labels)


def semantic_maps(logits: Tensor, size: tuple[int, int], original: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """The class of every pixel at the ``original`` (H, W), uint8, of images seen at ``size``: one at a time.

    Logits [B, classes, h, w] are on p2's grid and interpolated once. Of equal logits the first class wins.
    """
    down, across = (STRIDES[0] * new / old for new, old in zip(original, size, strict=True))
    return [_greatest(one.detach(), (down, across), original).cpu().numpy() for one in logits]


def _greatest(logits: Tensor, factors: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """The greatest of the enlarged ``logits`` [classes, h, w]: its class, uint8 [H, W], a few classes at a time."""
    at_once = max(1, _BYTES // (size[0] * size[1] * logits.element_size()))
    best = logits.new_full(size, float("-inf"))
    classes = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for first in range(0, len(logits), at_once):
        for index, values in enumerate(enlarge(logits[None, first : first + at_once], factors, size)[0], start=first):
            classes.masked_fill_(values > best, index)
            torch.maximum(best, values, out=best)
    return classes


def enlarge(x: Tensor, factors: tuple[float, float], size: torch.Size | tuple[int, int]) -> Tensor:
    """[B, C, h, w] interpolated bilinearly by exactly ``factors`` and cut to ``size`` = (H, W).

    Grids round up: 25 cells of 4 pixels cover 100 pixels of an image of 97, which must not be squeezed into 97.
    """
    padded = F.pad(x, (0, 1, 0, 1), mode="replicate")
    larger = F.interpolate(padded, scale_factor=factors, mode="bilinear", align_corners=False)
    return larger[:, :, : size[0], : size[1]]
