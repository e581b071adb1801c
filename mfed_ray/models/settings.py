"""The settings of models: the configuration's section ``model``, free of torch."""

from typing import Literal

from pydantic import Field

from mfed_ray.section import Section

Normalisation = Literal["auto", "average", "local", "frozen", "group"]
"""The policies of ``mfed_ray.models.normalisation``; `auto`: the experiment decides."""
DecoderStyle = Literal["aspp", "light"]

RESNET_WIDTH = 64
"""Channels of the first stage of torchvision's ResNets."""


class PanopticMerge(Section):
    """How Panoptic FPN (arXiv 1901.02446, section 4; Kirillov et al., Panoptic Segmentation) joins its two branches.

    Objects of at least ``score`` are pasted by falling score, unless more than the share ``overlap`` of one is taken
    already; the rest goes to stuff, of which a class with fewer than ``stuff_area`` pixels of the image is void.
    """

    overlap: float = Field(0.5, ge=0, le=1)
    stuff_area: int = Field(4096, ge=0)
    score: float = Field(0.5, ge=0, le=1)


class ModelSettings(Section):
    """Encoder, decoders, and the one normalisation policy. Each part of a model takes what concerns it."""

    encoder: str = "resnet50"
    width: int = Field(RESNET_WIDTH, ge=8)
    """Channels of a ResNet's stem and first stage, before the block's expansion; each later stage has twice as many.
    A quarter of the width has about a sixteenth of the parameters. MobileNetV2 and pretrained weights have no other."""
    output_stride: Literal[8, 16, 32] = 16
    weights: str | None = None
    """None, ``torchvision``, or a .safetensors or .pth file."""
    normalisation: Normalisation = "auto"
    """`auto`: `average`; with COCO's tasks, whose batches are small, `frozen` if there are weights, else `group`. An
    experiment decides it (``Experiment.settled``); a model is built with one of the others only."""
    decoder: DecoderStyle = "aspp"
    """Trunk of the decoders of PASCAL-Context's tasks; those of COCO's have their own."""
    decoder_width: int = Field(256, ge=8)
    """Channels of the decoders' layers; of COCO's the standard ones at 256, and in proportion else."""
    detector_normalisation: Literal["group"] | None = None
    """Of the feature pyramid and detectors' heads. None: nothing, as in Mask R-CNN, except under the policy `group`;
    `group`: GroupNorm, which learns in fewer steps."""
    fpn: Literal["auto", "encoder", "decoder"] = "auto"
    """Where the feature pyramid of COCO's tasks stands: shared with the encoder, or each decoder's own. `auto`: with
    the encoder if every client trains it there."""
    fpn_width: int = Field(256, ge=8)
    """Channels of the feature pyramid."""
    anchor_size: float = Field(32, gt=0)
    """Side of the finest anchors, on p2, in pixels; each of the four further levels doubles it."""
    box_samples: int = Field(512, ge=1)
    """Boxes per image that a detector's box head is trained on."""
    score_threshold: float = Field(0.05, ge=0, lt=1)
    """Objects below are not given out."""
    max_detections: int = Field(100, ge=1)
    """Objects given out per image, at most."""
    panoptic: PanopticMerge = PanopticMerge()
    """How objects and stuff become one panoptic map."""
