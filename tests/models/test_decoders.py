"""The dense decoder in every style and policy."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mfed_ray.errors import ConfigError
from mfed_ray.models.contract import Features
from mfed_ray.models.decoders import DenseDecoder
from mfed_ray.models.heads import EDGE_HEAD, NORMALS_HEAD, class_head
from mfed_ray.models.normalisation import NORMALISATIONS
from mfed_ray.models.settings import DecoderStyle, ModelSettings, Normalisation
from mfed_ray.models.trunks import TRUNKS

SIZE = (40, 56)
CHANNELS = {"c2": 4, "c3": 6, "c4": 8, "c5": 10}


def features(batch: int) -> Features:
    """What an encoder of output stride 16 makes of 40 x 56 pixels."""
    torch.manual_seed(0)
    sizes = {"c2": (10, 14), "c3": (5, 7), "c4": (3, 4), "c5": (3, 4)}
    return {stage: torch.randn(batch, CHANNELS[stage], *size) for stage, size in sizes.items()}


@pytest.mark.parametrize("style", TRUNKS)
@pytest.mark.parametrize("policy", NORMALISATIONS)
def test_one_image_trains(style: DecoderStyle, policy: Normalisation) -> None:
    decoder = DenseDecoder(
        CHANNELS, ModelSettings(decoder=style, decoder_width=8, normalisation=policy), head=class_head(5)
    ).train()
    losses = decoder.losses(features(1), torch.ones(1, 40, 56, dtype=torch.int64), SIZE)
    torch.autograd.backward([losses["cross_entropy"]])
    # logits start near zero: close to the cross-entropy of five equal chances
    assert losses.keys() == {"cross_entropy"}
    assert losses["cross_entropy"].item() == pytest.approx(1.609, abs=0.2)
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in decoder.parameters())


@pytest.mark.parametrize("style", TRUNKS)
def test_predictions_have_the_size_asked_for(style: DecoderStyle) -> None:
    settings = ModelSettings(decoder=style, decoder_width=8, normalisation="group")
    found = []
    for head, original in ((class_head(5), SIZE), (EDGE_HEAD, (37, 53)), (NORMALS_HEAD, (80, 112))):
        predictions = DenseDecoder(CHANNELS, settings, head=head).predict(features(2), SIZE, original)
        found.append([np.shape(one) for one in predictions])
    assert found == [[(40, 56)] * 2, [(37, 53)] * 2, [(80, 112, 3)] * 2]


def test_logits_are_interpolated_with_corners_not_aligned() -> None:
    """A ramp 0, 1 on two cells, at four pixels: 0, 1/4, 3/4, 1; the third pixel is above the bias of -1/2."""
    decoder = DenseDecoder(
        CHANNELS, ModelSettings(decoder="light", decoder_width=8, normalisation="average"), head=EDGE_HEAD
    )
    ramp = torch.tensor([[0.0, 1.0]]).reshape(1, 1, 1, 2)
    decoder.trunk = Constant(ramp)
    decoder.classifier = nn.Conv2d(1, 1, 1)
    nn.init.ones_(decoder.classifier.weight)
    nn.init.zeros_(decoder.classifier.bias)  # type: ignore[arg-type]
    (prediction,) = decoder.predict({}, (1, 2), (1, 4))
    np.testing.assert_allclose(prediction, torch.tensor([[0.0, 0.25, 0.75, 1.0]]).sigmoid().numpy())


class Constant(nn.Module):
    """A trunk that gives the same map whatever the features."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Features) -> Tensor:
        return self.value


def test_every_style_that_can_be_configured_has_a_trunk() -> None:
    assert get_args(DecoderStyle) == tuple(TRUNKS)


def test_a_normalisation_that_is_not_decided_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.normalisation: unknown policy 'auto', allowed: average"):
        DenseDecoder(CHANNELS, ModelSettings(normalisation="auto"), head=EDGE_HEAD)
