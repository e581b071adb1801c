"""The decoder of every dense-prediction task."""

from collections.abc import Mapping

from torch import Tensor, nn

from mfed_ray.annotations import Prediction
from mfed_ray.models.contract import BatchTarget, Decoder, Features
from mfed_ray.models.heads import Head
from mfed_ray.models.normalisation import norm_layer
from mfed_ray.models.settings import ModelSettings
from mfed_ray.models.trunks import TRUNKS, resize

CLASSIFIER_STD = 0.01
"""Small initial logits: training starts from near-uniform predictions."""


class DenseDecoder(Decoder):
    """A trunk (``settings.decoder``: `aspp` or `light`) and a 1x1 classifier with the head's outputs.

    Nothing in it draws random numbers after construction: there is no dropout.

    Raises ConfigError for the normalisation policy `auto`, which an experiment has to decide first.
    """

    def __init__(self, channels: Mapping[str, int], settings: ModelSettings, *, head: Head) -> None:
        super().__init__()
        width = settings.decoder_width
        self.head = head
        self.trunk = TRUNKS[settings.decoder](channels, width, norm_layer(settings.normalisation, "decoder"))
        self.classifier = nn.Conv2d(width, head.outputs, 1)
        self._initialise()

    def losses(self, features: Features, targets: BatchTarget, size: tuple[int, int]) -> dict[str, Tensor]:
        """The head's loss by its name; ``targets`` is a tensor [B, H, W, ...]."""
        return {self.head.name: self.head.loss(self._logits(features, size), targets)}

    def predict(self, features: Features, size: tuple[int, int], original: tuple[int, int]) -> list[Prediction]:
        """The head's predictions, [H, W] or [H, W, C]: logits are interpolated once, to the original size."""
        del size
        return list(self.head.activate(self._logits(features, original)).detach().cpu().numpy())

    def _logits(self, features: Features, size: tuple[int, int]) -> Tensor:
        return resize(self.classifier(self.trunk(features)), size)

    def _initialise(self) -> None:
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
