"""Losses of dense prediction, each a mean over the pixels that are not void.

Logits are float [B, C, H, W]. A batch that is void throughout gives 0 with a gradient of 0, never NaN.
"""

import torch.nn.functional as F
from torch import Tensor

from mfed_ray.labels import VOID

EDGE_POSITIVE_WEIGHT = 0.95


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy with labels int64 [B, H, W]; 255 is void."""
    total = F.cross_entropy(logits, target, ignore_index=VOID, reduction="sum")
    return total / (target != VOID).sum().clamp(min=1)


def balanced_binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Sigmoid cross-entropy of [B, 1, H, W] with labels 0 or 1 [B, H, W]; 255 is void.

    Positives weigh the batch's share of negatives, negatives that of positives (HED, Xie & Tu, ICCV 2015,
    equation 2), as ASTMT does for saliency (Maninis et al., CVPR 2019). ASTMT divides by all pixels, this by
    those that are not void.
    """
    negatives = (target == 0).sum()
    return _weighted(logits, target, negatives / (target != VOID).sum().clamp(min=1))


def edge_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """As ``balanced_binary_cross_entropy``, with ASTMT's fixed weights: edges 0.95, others 0.05."""
    return _weighted(logits, target, EDGE_POSITIVE_WEIGHT)


def _weighted(logits: Tensor, target: Tensor, positive_weight: Tensor | float) -> Tensor:
    positive, negative = target == 1, target == 0
    weight = positive_weight * positive + (1 - positive_weight) * negative
    total = F.binary_cross_entropy_with_logits(logits[:, 0], positive.to(logits.dtype), weight, reduction="sum")
    return total / (positive | negative).sum().clamp(min=1)


def normals_l1(logits: Tensor, target: Tensor) -> Tensor:
    """L1 distance, mean over components, of [B, 3, H, W] scaled to unit vectors from unit vectors [B, H, W, 3].

    The zero vector is void. ASTMT's loss of surface normals (Maninis et al., CVPR 2019).
    """
    valid = target.any(dim=-1, keepdim=True)
    distance = (F.normalize(logits, dim=1).permute(0, 2, 3, 1) - target).abs() * valid
    return distance.sum() / (3 * valid.sum()).clamp(min=1)
