"""What a dense decoder's logits mean: how many there are, their loss, and the prediction made of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mfed_ray.models.losses import balanced_binary_cross_entropy, cross_entropy, edge_cross_entropy, normals_l1


@dataclass(frozen=True)
class Head:
    """``loss(logits, target)`` is named ``name``; ``activate(logits)`` is the prediction; logits [B, outputs, H, W]."""

    name: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    activate: Callable[[Tensor], Tensor]


def class_ids(logits: Tensor) -> Tensor:
    """The class of the greatest logit: uint8 [B, H, W]."""
    return logits.argmax(dim=1).to(torch.uint8)


def probability(logits: Tensor) -> Tensor:
    """The sigmoid of the one logit: float [B, H, W]."""
    return logits[:, 0].sigmoid()


def unit_vectors(logits: Tensor) -> Tensor:
    """Logits scaled to length 1: float [B, H, W, 3]."""
    return F.normalize(logits, dim=1).permute(0, 2, 3, 1)


def class_head(classes: int) -> Head:
    """One of ``classes`` for every pixel."""
    return Head("cross_entropy", classes, cross_entropy, class_ids)


SALIENCY_HEAD = Head("balanced_cross_entropy", 1, balanced_binary_cross_entropy, probability)
EDGE_HEAD = Head("edge_cross_entropy", 1, edge_cross_entropy, probability)
NORMALS_HEAD = Head("l1", 3, normals_l1, unit_vectors)
