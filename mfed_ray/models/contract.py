"""What encoders and decoders promise each other."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

Features = Mapping[str, Tensor]
"""Feature maps by stage name, ``c2`` (stride 4) to ``c5`` (the deepest): float [B, C, h, w]."""


class Encoder(nn.Module, ABC):
    """Shared part of every client's model. ``channels`` gives each stage's number of channels."""

    channels: Mapping[str, int]

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Features of normalised images, float [B, 3, H, W]."""


class Decoder(nn.Module, ABC):
    """A task's own part of the model, from encoder features to losses and predictions."""

    @abstractmethod
    def losses(self, features: Features, target: Tensor) -> dict[str, Tensor]:
        """Scalar losses by name, unweighted, for a batch of targets [B, H, W, ...]; their sum is minimised."""

    @abstractmethod
    def predict(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Predictions for the task's metric at ``size`` = (H, W), one per image: [B, H, W] or [B, H, W, C]."""
