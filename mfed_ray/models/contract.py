"""What encoders and decoders promise each other."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mfed_ray.annotations import Prediction

STAGES = ("c2", "c3", "c4", "c5")
"""Every encoder's stages, from stride 4 to the deepest."""

Features = Mapping[str, Tensor]
"""Feature maps by stage name, float [B, C, h, w]: ``c2`` (stride 4) to ``c5`` (the deepest) and, where the encoder has
a feature pyramid, ``p2`` (stride 4) to ``p6`` (stride 64), all of one number of channels."""

BatchTarget = Any
"""Training targets of B images: one tensor [B, ...], or named tensors per image where their shapes differ."""


@dataclass(frozen=True)
class PanopticMerge:
    """How Panoptic FPN (arXiv 1901.02446, section 4; Kirillov et al., Panoptic Segmentation) joins its two branches.

    Objects of at least ``score`` are pasted by falling score, unless more than the share ``overlap`` of one is taken
    already; the rest goes to stuff, of which a class with fewer than ``stuff_area`` pixels of the image is void.
    """

    overlap: float = 0.5
    stuff_area: int = 4096
    score: float = 0.5


@dataclass(frozen=True)
class DecoderSettings:
    """What all decoders of an experiment are built from; each takes what concerns it. Defaults are the standard ones.

    ``style``: trunk of a dense decoder; ``width``: channels of decoders' layers; ``normalisation``: the policy;
    ``detector_normalisation``: another one for the pyramid and detectors' heads; ``pyramid_width``: channels of the
    feature pyramid; ``anchor_size``: side of the anchors on p2 in pixels, doubled from level to level;
    ``box_samples``: boxes per image that a detector's box head is trained on; ``score_threshold`` and
    ``max_detections``: which objects are given out; ``panoptic``: how objects and stuff become one map.
    """

    style: str = "aspp"
    width: int = 256
    normalisation: str = "average"
    detector_normalisation: str | None = None
    pyramid_width: int = 256
    anchor_size: float = 32.0
    box_samples: int = 512
    score_threshold: float = 0.05
    max_detections: int = 100
    panoptic: PanopticMerge = PanopticMerge()


class Encoder(nn.Module, ABC):
    """Shared part of every client's model. ``channels`` gives each stage's number of channels."""

    channels: Mapping[str, int]

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Features of normalised images, float [B, 3, H, W]."""


class Decoder(nn.Module, ABC):
    """A task's own part of the model, from encoder features to losses and predictions."""

    @abstractmethod
    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        """Scalar losses by name, unweighted, for a batch of images of ``size`` = (H, W); their sum is minimised."""

    @abstractmethod
    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        """One prediction per image, in main memory, at the images' ``original`` (H, W).

        ``size`` is the (H, W) at which the encoder saw them.
        """
