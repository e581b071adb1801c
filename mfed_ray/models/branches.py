"""What Mask R-CNN and Keypoint R-CNN (He et al., ICCV 2017) say of a box: torchvision's heads, masks and keypoints.

Masks differ from ``torchvision.models.detection`` by half a pixel, twice: it samples the targets as if the pixels'
centres were whole numbers, and pastes masks into boxes rounded to whole pixels. Here the centres are at halves in both,
as in ``mfed_ray.annotations``. COCO's masks seen at 320 pixels a side, encoded at 28 x 28 and pasted at their own size,
have a mean IoU of 0.79 with themselves in torchvision's way and of 0.91 in this one (313 objects of 40 images).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypointrcnn_loss
from torchvision.ops import roi_align

from mfed_ray.annotations import Detections
from mfed_ray.coco_categories import KEYPOINTS
from mfed_ray.models.contract import Features
from mfed_ray.models.pyramid import detector_policy, optional_norm, region_pool
from mfed_ray.models.settings import ModelSettings

ObjectTargets = Sequence[Mapping[str, Tensor]]
"""Per image ``boxes`` float32 [N, 4], ``labels`` int64 [N] and ``masks`` uint8 [N, H, W] or ``keypoints`` float32
[N, 17, 3], at the size the encoder saw; N may be 0."""

REGION_CELLS = 14
MASK_THRESHOLD = 0.5


class Branch(nn.Module, ABC):
    """What is said of a found box beside its class: its mask or its keypoints."""

    name: str

    def __init__(self, head: nn.Module, predictor: nn.Module, anchor_size: float) -> None:
        super().__init__()
        self.pool = region_pool(REGION_CELLS, anchor_size)
        self.head = head
        self.predictor = predictor

    def forward(self, levels: Features, boxes: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        """Logits [R, C, m, m] of the R boxes of all images."""
        logits: Tensor = self.predictor(self.head(self.pool(levels, boxes, sizes)))
        return logits

    @abstractmethod
    def loss(self, logits: Tensor, boxes: list[Tensor], matches: list[Tensor], targets: ObjectTargets) -> Tensor:
        """Loss of logits [R, C, m, m] of boxes, each of which matches the object ``matches`` of its image."""

    @abstractmethod
    def describe(self, logits: Tensor, found: Detections, boxes: Tensor) -> Detections:
        """An image's ``found`` objects with what the logits [N, C, m, m] of their ``boxes`` say of them."""


class MaskBranch(Branch):
    """A mask of 28 x 28 for each class: four 3x3 convolutions of ``width`` and a transposed one."""

    name = "mask"

    def __init__(self, inputs: int, classes: int, settings: ModelSettings) -> None:
        width = settings.decoder_width
        head = MaskRCNNHeads(inputs, (width,) * 4, 1, optional_norm(detector_policy(settings)))
        super().__init__(head, MaskRCNNPredictor(width, width, classes), settings.anchor_size)

    def loss(self, logits: Tensor, boxes: list[Tensor], matches: list[Tensor], targets: ObjectTargets) -> Tensor:
        """Binary cross-entropy of the mask of the object's class; 0 without objects."""
        pairs = list(zip(targets, matches, strict=True))
        labels = torch.cat([target["labels"][match] for target, match in pairs])
        wanted = torch.cat(
            [
                mask_targets(target["masks"], box, match, logits.shape[-1])
                for (target, match), box in zip(pairs, boxes, strict=True)
            ]
        )
        chosen = logits[torch.arange(len(labels), device=labels.device), labels]
        total = F.binary_cross_entropy_with_logits(chosen, wanted, reduction="sum")
        return total / max(1, wanted.numel())

    def describe(self, logits: Tensor, found: Detections, boxes: Tensor) -> Detections:
        """Masks, uint8 [N, H, W], at the image's own size."""
        labels = torch.from_numpy(found.labels)
        chosen = logits.detach().cpu()[torch.arange(len(labels)), labels].sigmoid()
        return replace(found, masks=paste_masks(chosen, boxes.cpu(), found.size).numpy())


class KeypointBranch(Branch):
    """A heatmap of 56 x 56 for each keypoint: eight 3x3 convolutions of 2 ``width`` and a transposed one.

    GroupNorm under `group`, as in ``optional_norm``; torchvision's own head has no place for it.
    """

    name = "keypoint"

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        width, norm = 2 * settings.decoder_width, optional_norm(detector_policy(settings))
        layers = (width,) * 8
        head = MaskRCNNHeads(inputs, layers, 1, norm) if norm else KeypointRCNNHeads(inputs, layers)
        super().__init__(head, KeypointRCNNPredictor(width, len(KEYPOINTS)), settings.anchor_size)

    def loss(self, logits: Tensor, boxes: list[Tensor], matches: list[Tensor], targets: ObjectTargets) -> Tensor:
        """Softmax cross-entropy over a heatmap's cells of the labelled keypoints inside the box; 0 without any."""
        loss: Tensor = keypointrcnn_loss(logits, boxes, [target["keypoints"] for target in targets], matches)
        return loss

    def describe(self, logits: Tensor, found: Detections, boxes: Tensor) -> Detections:
        """Keypoints, float32 [N, 17, 3]: the pixel of the image in which the heatmap, interpolated, is greatest."""
        keypoints, _ = heatmaps_to_keypoints(logits.detach(), boxes)
        return replace(found, keypoints=keypoints.cpu().numpy())


def mask_targets(masks: Tensor, boxes: Tensor, matches: Tensor, cells: int) -> Tensor:
    """The share of each of ``cells`` x ``cells`` of the boxes [R, 4] that the mask of its object covers: [R, m, m].

    ``masks``: [N, H, W], 0 or 1; ``matches``: int64 [R], which of them is a box's.
    """
    regions = torch.cat([matches[:, None].to(boxes.dtype), boxes], dim=1)
    shares: Tensor = roi_align(masks[:, None].to(boxes.dtype), regions, cells, aligned=True)
    return shares[:, 0]


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, m, m] of probabilities, spread over their boxes in an image of ``size``: uint8 [N, H, W].

    A pixel is 1 where the mask, interpolated bilinearly at its centre and 0 outside the box, exceeds 0.5.
    """
    pasted = torch.zeros(len(masks), *size, dtype=torch.uint8)
    for index, (mask, (left, top, right, bottom)) in enumerate(zip(masks, boxes.tolist(), strict=True)):
        rows, columns = (
            _interpolation(start, end, pixels, len(mask))
            for start, end, pixels in ((top, bottom, size[0]), (left, right, size[1]))
        )
        pasted[index] = rows @ mask @ columns.T > MASK_THRESHOLD
    return pasted


def _interpolation(start: float, end: float, pixels: int, cells: int) -> Tensor:
    """Weights [pixels, cells] of ``cells`` between ``start`` and ``end`` at the centres of pixels."""
    positions = (torch.arange(pixels) + 0.5 - start) / (end - start) * cells - 0.5
    return (1 - (positions[:, None] - torch.arange(cells)).abs()).clamp(min=0)
