"""Encoders: the features' sizes and channels, torchvision's parameter names, and errors."""

import pytest
import torch
import torchvision.models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, ResNet

from mfed_ray.errors import ConfigError
from mfed_ray.models.encoders import ENCODERS, OUTPUT_STRIDES, make_encoder
from mfed_ray.models.normalisation import norm_layer

BASIC = {"c2": 64, "c3": 128, "c4": 256, "c5": 512}
BOTTLENECK = {"c2": 256, "c3": 512, "c4": 1024, "c5": 2048}
CHANNELS = {
    "resnet10": BASIC,
    "resnet18": BASIC,
    "resnet34": BASIC,
    "resnet50": BOTTLENECK,
    "resnet101": BOTTLENECK,
    "mobilenet_v2": {"c2": 24, "c3": 32, "c4": 96, "c5": 320},
}
# 65 x 33 pixels: 65 / 4 = 16.25 rounds up to 17 and so on
SIZES = {
    8: {"c2": (17, 9), "c3": (9, 5), "c4": (9, 5), "c5": (9, 5)},
    16: {"c2": (17, 9), "c3": (9, 5), "c4": (5, 3), "c5": (5, 3)},
    32: {"c2": (17, 9), "c3": (9, 5), "c4": (5, 3), "c5": (3, 2)},
}
SMALL = [name for name in CHANNELS if name != "resnet101"]


def test_channels_are_known_of_every_encoder() -> None:
    assert CHANNELS.keys() == ENCODERS.keys()


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
@pytest.mark.parametrize("policy", ["average", "group", "frozen"])
@pytest.mark.parametrize("name", SMALL)
def test_sizes_and_channels(name: str, output_stride: int, policy: str) -> None:
    encoder = ENCODERS[name](output_stride, norm_layer(policy, "encoder"))
    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, 65, 33))
    assert {stage: feature.shape[1] for stage, feature in features.items()} == CHANNELS[name] == encoder.channels
    assert {stage: feature.shape[2:] for stage, feature in features.items()} == SIZES[output_stride]


def test_resnet101_has_its_layers() -> None:
    """44.5 M parameters in torchvision's table, 2.05 M of them in the classifier."""
    encoder = make_encoder("resnet101", 16, None, "average")
    assert encoder.channels == CHANNELS["resnet101"]
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 44_549_160 - 2_049_000


def test_resnet18_is_torchvisions_without_the_classifier() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet18().eval()
    encoder = make_encoder("resnet18", 32, None, "average").eval()
    missing, unexpected = encoder.load_state_dict(reference.state_dict(), strict=False)
    assert (missing, unexpected) == ([], ["fc.weight", "fc.bias"])
    layers = IntermediateLayerGetter(reference, {f"layer{stage}": f"c{stage + 1}" for stage in range(1, 5)})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = encoder(images), layers(images)
    assert all(torch.equal(ours[stage], theirs[stage]) for stage in CHANNELS["resnet18"])


def test_an_encoder_of_64_starts_as_torchvisions_does() -> None:
    """The same names and, from the same seed, the same values; and as many draws."""
    torch.manual_seed(3)
    reference = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=1)
    after = torch.rand(1)
    for width in ({}, {"width": 64}):
        torch.manual_seed(3)
        ours = make_encoder("resnet10", 16, None, "average", **width).state_dict()
        assert torch.equal(torch.rand(1), after)
        theirs = {name: value for name, value in reference.state_dict().items() if not name.startswith("fc.")}
        assert list(ours) == list(theirs)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [
        # w^2 (18 + 56 + 224 + 896) in the stages' convolutions, 147 w in the stem's, 90 w in BatchNorm
        ("resnet10", 64, 1194 * 64**2 + 237 * 64),
        ("resnet10", 16, 1194 * 16**2 + 237 * 16),
        # BatchNorm has 830 w, the stem's convolution 147 w; the rest of torchvision's 23,508,032 goes as w^2
        ("resnet50", 64, 23_508_032),
        ("resnet50", 32, (23_508_032 - 977 * 64) // 4 + 977 * 32),
    ],
)
def test_parameters_by_width(name: str, width: int, parameters: int) -> None:
    encoder = make_encoder(name, 16, None, "average", width)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters
    assert encoder.state_dict().keys() == make_encoder(name, 16, None, "average").state_dict().keys()


@pytest.mark.parametrize(("name", "last"), [("resnet10", 128), ("resnet50", 512)])
def test_a_narrow_encoders_features(name: str, last: int) -> None:
    encoder = make_encoder(name, 16, None, "group", width=16)
    assert encoder.channels == {"c2": last // 8, "c3": last // 4, "c4": last // 2, "c5": last}
    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, 65, 33))
    assert {stage: feature.shape[1] for stage, feature in features.items()} == encoder.channels
    assert {stage: feature.shape[2:] for stage, feature in features.items()} == SIZES[16]


def test_no_layer_is_unused() -> None:
    for name, width in (("resnet10", 64), ("resnet10", 16), ("mobilenet_v2", 64)):
        encoder = make_encoder(name, 16, None, "average", width)
        encoder(torch.randn(2, 3, 64, 64))["c5"].square().sum().backward()
        assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_unknown_encoder() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.encoder: unknown encoder 'vgg16', allowed: resnet10, .*mobilenet_v2"
    ):
        make_encoder("vgg16", 16, None, "average")


def test_mobilenet_takes_no_width() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        make_encoder("mobilenet_v2", 16, None, "average", 32)


def test_impossible_output_stride() -> None:
    with pytest.raises(ConfigError, match=r"model\.output_stride: 4 is not possible, allowed: 8, 16, 32"):
        make_encoder("resnet10", 4, None, "average")


def test_unknown_normalisation() -> None:
    with pytest.raises(ConfigError, match=r"model\.normalisation: unknown policy 'none', allowed: average"):
        make_encoder("resnet10", 16, None, "none")


def test_frozen_statistics_without_weights() -> None:
    message = r"model\.normalisation: 'frozen' keeps pretrained statistics but model\.weights is null; allowed with"
    with pytest.raises(ConfigError, match=message):
        make_encoder("resnet10", 16, None, "frozen")
