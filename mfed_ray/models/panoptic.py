"""Panoptic FPN (Kirillov et al., CVPR 2019, arXiv 1901.02446): objects and stuff on one pyramid, in one map."""

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfed_ray.annotations import Detections, Prediction, Segments
from mfed_ray.coco_categories import MERGED_STUFF, THINGS
from mfed_ray.models.branches import MaskBranch, ObjectTargets
from mfed_ray.models.contract import BatchTarget, Decoder, Features
from mfed_ray.models.detection import RegionDetector
from mfed_ray.models.pyramid import pyramid_for
from mfed_ray.models.semantic_fpn import SemanticBranch, semantic_loss, semantic_maps
from mfed_ray.models.settings import ModelSettings, PanopticMerge

SEMANTIC_WEIGHT = 0.5
"""Weight of the semantic loss beside the objects' (section 5 of the paper, on COCO)."""


class PanopticFPN(Decoder):
    """Mask R-CNN over the 80 things and a semantic branch over 53 stuff classes and "things", class 0."""

    def __init__(self, channels: Mapping[str, int], settings: ModelSettings) -> None:
        super().__init__()
        self.rules = settings.panoptic
        self.pyramid = pyramid_for(channels, settings)
        inputs, classes = self.pyramid.width, 1 + len(THINGS)
        self.detector = RegionDetector(inputs, classes, settings, MaskBranch(inputs, classes, settings))
        self.semantic = SemanticBranch(inputs, settings.decoder_width // 2, 1 + len(MERGED_STUFF))

    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        """The detector's losses and ``semantic``, which is weighted: the paper tuned it against the others.

        ``targets``: ``ObjectTargets`` with masks and ``semantic``, int64 [H, W]: 0 things, 1..53 stuff, 255 void.
        """
        levels, objects = self.pyramid(features), cast("ObjectTargets", targets)
        labels = torch.stack([target["semantic"] for target in objects])
        semantic = SEMANTIC_WEIGHT * semantic_loss(self.semantic(levels), labels, size)
        return {**self.detector.losses(levels, objects, size), "semantic": semantic}

    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        """``Segments``: the two branches' results, joined at the original size."""
        levels = self.pyramid(features)
        found = self.detector.detect(levels, size, original)
        maps = semantic_maps(self.semantic(levels), size, original)
        return [merge_panoptic(*image, self.rules) for image in zip(found, maps, strict=True)]


def merge_panoptic(detections: Detections, semantic: NDArray[np.uint8], rules: PanopticMerge) -> Segments:
    """One map of the objects (with masks, best first) and the classes ``semantic`` [H, W], 0 things, 1..53 stuff.

    Objects go first, see ``PanopticMerge``; as in the authors' code an object or a class that no free pixel is left
    of is no segment. Segments are numbered from 1 in the order in which they are pasted.
    """
    taken = np.zeros(detections.size, np.int32)
    labels: list[int] = []
    for mask, label in _objects(detections, rules.score):
        free = mask & (taken == 0)
        if free.any() and mask.sum() - free.sum() <= rules.overlap * mask.sum():
            labels.append(label - 1)
            taken[free] = len(labels)
    rest = np.where(taken == 0, semantic, 0)
    areas = np.bincount(rest.ravel(), minlength=1 + len(MERGED_STUFF))
    for stuff in range(1, len(areas)):
        if areas[stuff] >= max(1, rules.stuff_area):
            labels.append(len(THINGS) + stuff - 1)
            taken[rest == stuff] = len(labels)
    return Segments(taken, np.arange(1, len(labels) + 1), np.array(labels, np.int64))


def _objects(detections: Detections, score: float) -> Iterator[tuple[NDArray[np.bool_], int]]:
    """Masks [H, W] and labels of the objects of at least ``score``, best first."""
    masks = cast("NDArray[np.uint8]", detections.masks)
    for index in np.flatnonzero(detections.scores >= score):
        yield masks[index] > 0, int(detections.labels[index])
