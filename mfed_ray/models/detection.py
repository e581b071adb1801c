"""Mask R-CNN and Keypoint R-CNN (He et al., ICCV 2017) of torchvision's parts, with its standard values."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from mfed_ray.annotations import Detections, Prediction
from mfed_ray.coco_categories import THINGS
from mfed_ray.models.branches import Branch, KeypointBranch, MaskBranch, ObjectTargets
from mfed_ray.models.contract import BatchTarget, Decoder, Features
from mfed_ray.models.pyramid import ASPECT_RATIOS, PyramidAnchors, pyramid_for, region_pool
from mfed_ray.models.settings import ModelSettings

BOX_CELLS = 7
PROPOSALS = {"training": 2000, "testing": 1000}
"""How many proposals are kept: of each level before suppression, of an image after it."""


class RegionDetector(nn.Module):
    """Boxes of ``classes`` (0 is background) on pyramid levels of ``inputs`` channels, and what a branch says of them.

    Region proposals from p2..p6 and a box head of two layers of 4 ``width`` on p2..p5. Sampling of anchors and boxes
    draws from torch's global generator.
    """

    def __init__(self, inputs: int, classes: int, settings: ModelSettings, branch: Branch) -> None:
        super().__init__()
        width = 4 * settings.decoder_width
        head = RPNHead(inputs, len(ASPECT_RATIOS))
        anchors = PyramidAnchors(settings.anchor_size)
        self.proposals = RegionProposalNetwork(anchors, head, 0.7, 0.3, 256, 0.5, PROPOSALS, PROPOSALS, 0.7)
        self.boxes = RoIHeads(
            region_pool(BOX_CELLS, settings.anchor_size),
            TwoMLPHead(inputs * BOX_CELLS**2, width),
            FastRCNNPredictor(width, classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=settings.box_samples,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=settings.score_threshold,
            nms_thresh=0.5,
            detections_per_img=settings.max_detections,
        )
        self.branch = branch

    def losses(self, levels: Features, targets: ObjectTargets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``objectness``, ``rpn_box``, ``classification``, ``box`` and the branch's, for images of ``size``."""
        sizes = [size] * len(targets)
        # neither part has a layer that depends on the mode: it chooses how many proposals are kept, and the losses
        proposals, first = self.proposals.train()(ImageList(levels["p2"], sizes), levels, targets)
        proposals, matches, labels, offsets = self.boxes.select_training_samples(proposals, targets)
        classification, box = fastrcnn_loss(*self._classify(levels, proposals, sizes), labels, offsets)
        positive = [label > 0 for label in labels]
        regions = [each[chosen] for each, chosen in zip(proposals, positive, strict=True)]
        matched = [each[chosen] for each, chosen in zip(matches, positive, strict=True)]
        return {
            "objectness": first["loss_objectness"],
            "rpn_box": first["loss_rpn_box_reg"],
            "classification": classification,
            "box": box,
            self.branch.name: self.branch.loss(self.branch(levels, regions, sizes), regions, matched, targets),
        }

    def detect(self, levels: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Detections]:
        """The objects of each image, seen at ``size``, in the pixels of its ``original`` (H, W)."""
        sizes = [size] * len(levels["p2"])
        proposals, _ = self.proposals.eval()(ImageList(levels["p2"], sizes), levels)
        logits, offsets = self._classify(levels, proposals, sizes)
        boxes, scores, labels = self.boxes.postprocess_detections(logits, offsets, proposals, sizes)
        described = self.branch(levels, boxes, sizes).split([len(each) for each in boxes])
        return [
            self._detections(*image, size, original) for image in zip(boxes, scores, labels, described, strict=True)
        ]

    def _classify(self, levels: Features, boxes: list[Tensor], sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        pooled = self.boxes.box_head(self.boxes.box_roi_pool(levels, boxes, sizes))
        logits, offsets = self.boxes.box_predictor(pooled)
        return logits, offsets

    def _detections(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        described: Tensor,
        size: tuple[int, int],
        original: tuple[int, int],
    ) -> Detections:
        placed = scale_boxes(boxes.detach(), size, original)
        arrays = (each.detach().cpu().numpy() for each in (placed, labels, scores))
        return self.branch.describe(described, Detections(original, *arrays), placed)


class MaskRCNN(Decoder):
    """Mask R-CNN over the 80 things: torchvision's ``maskrcnn_resnet50_fpn`` at a width of 256."""

    def __init__(self, channels: Mapping[str, int], settings: ModelSettings) -> None:
        super().__init__()
        self.pyramid = pyramid_for(channels, settings)
        inputs, classes = self.pyramid.width, 1 + len(THINGS)
        self.detector = RegionDetector(inputs, classes, settings, MaskBranch(inputs, classes, settings))

    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        """See ``RegionDetector.losses``; ``targets``: ``ObjectTargets`` with masks."""
        return self.detector.losses(self.pyramid(features), cast("ObjectTargets", targets), size)

    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        """``Detections`` with masks."""
        return list(self.detector.detect(self.pyramid(features), size, original))


class KeypointRCNN(Decoder):
    """Keypoint R-CNN over persons: torchvision's ``keypointrcnn_resnet50_fpn`` at a width of 256."""

    def __init__(self, channels: Mapping[str, int], settings: ModelSettings) -> None:
        super().__init__()
        self.pyramid = pyramid_for(channels, settings)
        inputs = self.pyramid.width
        self.detector = RegionDetector(inputs, 2, settings, KeypointBranch(inputs, settings))

    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        """See ``RegionDetector.losses``; ``targets``: ``ObjectTargets`` with keypoints."""
        return self.detector.losses(self.pyramid(features), cast("ObjectTargets", targets), size)

    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        """``Detections`` with keypoints."""
        return list(self.detector.detect(self.pyramid(features), size, original))


def scale_boxes(boxes: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Boxes [N, 4] of an image of ``size`` in the same image of ``original`` (H, W), cut at its edges."""
    (down, across), (height, width) = (new / old for new, old in zip(original, size, strict=True)), original
    scaled = boxes * boxes.new_tensor([across, down, across, down])
    return scaled.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
