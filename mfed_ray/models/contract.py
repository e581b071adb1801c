"""What encoders and decoders promise each other."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
