"""torchvision's ImageNet classifiers as encoders, with torchvision's parameter names."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torchvision.models
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from mfed_ray.errors import ConfigError
from mfed_ray.models.contract import Encoder, Features
from mfed_ray.models.dilation import dilate
from mfed_ray.models.normalisation import NormLayer, norm_layer
from mfed_ray.models.settings import RESNET_WIDTH
from mfed_ray.models.weights import load_weights
from mfed_ray.registry import Registered

OUTPUT_STRIDES = (8, 16, 32)

_LAST_BLOCKS = {3: "c2", 6: "c3", 13: "c4", 17: "c5"}
"""Stages by the number of MobileNetV2's block that ends them."""


Block = type[BasicBlock | Bottleneck]


class _ScaledResNet(ResNet):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's ResNet, whose stages are planned with 64, 128, 256 and 512 channels, at another width."""

    def __init__(self, block: Block, layers: Sequence[int], norm: NormLayer, width: int) -> None:
        self.width = width  # the constructor builds the stages
        super().__init__(block, list(layers), num_classes=1, norm_layer=norm)

    def _make_layer(
        self, block: Block, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        if planes == RESNET_WIDTH != self.width:  # before the first stage: the stem that it stands on
            self.inplanes = self.width
            self.conv1 = nn.Conv2d(3, self.width, 7, stride=2, padding=3, bias=False)
            self.bn1 = self._norm_layer(self.width)
        stage: nn.Sequential = super()._make_layer(block, planes * self.width // RESNET_WIDTH, blocks, stride, dilate)
        return stage


class ResNetEncoder(Encoder):
    """ResNet (He et al., CVPR 2016) up to its last stage; c2..c5 are ``layer1``..``layer4``.

    ``layers`` counts each stage's blocks; stage i of 4 has 2^(i - 1) ``width`` channels times the block's expansion. At
    output stride 8 or 16 the last two stages or the last one are dilated.
    """

    def __init__(
        self,
        block: Block,
        layers: Sequence[int],
        output_stride: int,
        norm: NormLayer,
        width: int = RESNET_WIDTH,
    ) -> None:
        super().__init__()
        net = _ScaledResNet(block, layers, norm, width)
        self.conv1: nn.Module = net.conv1
        self.bn1: nn.Module = net.bn1
        self.relu: nn.Module = net.relu
        self.maxpool: nn.Module = net.maxpool
        self.layer1: nn.Module = net.layer1
        self.layer2: nn.Module = net.layer2
        self.layer3: nn.Module = net.layer3
        self.layer4: nn.Module = net.layer4
        dilate({8: [self.layer3, self.layer4], 16: [self.layer4], 32: []}[output_stride])
        self.channels = {f"c{stage + 2}": width * 2**stage * block.expansion for stage in range(4)}

    def forward(self, images: Tensor) -> Features:
        """Features of normalised images, float [B, 3, H, W]; c2 has ceil(H / 4) rows."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        c2 = self.layer1(stem)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": self.layer4(c4)}


class MobileNetV2Encoder(Encoder):
    """MobileNetV2 up to its last bottleneck of 320 channels.

    The last 1x1 convolution to 1280 channels is dropped: the paper builds its dense predictors on the 320 channels,
    for similar accuracy at far less computation (Sandler et al., CVPR 2018, section 6.3).
    """

    def __init__(self, output_stride: int, norm: NormLayer) -> None:
        super().__init__()
        net = torchvision.models.MobileNetV2(num_classes=1, norm_layer=norm)
        self.features: nn.Sequential = net.features[:18]
        self.channels = {"c2": 24, "c3": 32, "c4": 96, "c5": 320}
        dilate({8: [self.features[7:14], self.features[14:]], 16: [self.features[14:]], 32: []}[output_stride])

    def forward(self, images: Tensor) -> Features:
        """Features of normalised images, float [B, 3, H, W]; c2 has ceil(H / 4) rows."""
        stages, x = {}, images
        for number, block in enumerate(self.features):
            x = block(x)
            if number in _LAST_BLOCKS:
                stages[_LAST_BLOCKS[number]] = x
        return stages


resnet10 = partial(ResNetEncoder, BasicBlock, (1, 1, 1, 1))
resnet18 = partial(ResNetEncoder, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNetEncoder, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNetEncoder, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNetEncoder, Bottleneck, (3, 4, 23, 3))
mobilenet_v2 = MobileNetV2Encoder

ENCODERS: Mapping[str, Callable[..., Encoder]] = Registered("encoder")
"""Constructors by name, called with the output stride and the normalisation layer; ResNets take a ``width`` too."""


def make_encoder(
    name: str, output_stride: int, weights: str | Path | None, normalisation: str, width: int = RESNET_WIDTH
) -> Encoder:
    """Build the encoder ``name`` whose c5 has one feature per ``output_stride`` pixels.

    ``weights``: None (random), ``"torchvision"`` (its default ImageNet weights) or a .safetensors or .pth file.
    ``width``: channels of a ResNet's first stage; no other encoder takes one.

    Raises ConfigError for an unknown name, stride or normalisation policy, for `frozen` without weights, and where
    torchvision has no weights for the encoder; WeightsError for weights that cannot be had, read or fitted.
    """
    if name not in ENCODERS:
        raise ConfigError(f"model.encoder: unknown encoder {name!r}, allowed: {', '.join(ENCODERS)}")
    if output_stride not in OUTPUT_STRIDES:
        allowed = ", ".join(map(str, OUTPUT_STRIDES))
        raise ConfigError(f"model.output_stride: {output_stride!r} is not possible, allowed: {allowed}")
    if normalisation == "frozen" and weights is None:
        raise ConfigError(
            "model.normalisation: 'frozen' keeps pretrained statistics but model.weights is null; "
            "allowed with weights only, else average, local or group"
        )
    options = {} if width == RESNET_WIDTH else {"width": width}
    encoder = ENCODERS[name](output_stride, norm_layer(normalisation, "encoder"), **options)
    if weights is not None:
        load_weights(encoder, name, weights)
    return encoder
