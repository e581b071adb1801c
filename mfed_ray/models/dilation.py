"""Dilation in place of stride: features of a finer grid from the same weights."""

from collections.abc import Iterable

from torch import nn


def dilate(stages: Iterable[nn.Module]) -> None:
    """Turn the strides of consecutive stages into dilation, in place.

    The algorithme à trous (DeepLab, arXiv 1606.00915, section 3.1): where a stride is dropped, all later
    convolutions are dilated by it, so every s-th feature equals the feature of the strided network. Kernels are 3x3
    or 1x1, as in every block of ResNet and MobileNetV2. For bottleneck blocks the result is torchvision's
    ``replace_stride_with_dilation``, which refuses basic blocks.
    """
    dilation = 1
    for stage in stages:
        for conv in (module for module in stage.modules() if isinstance(module, nn.Conv2d)):
            strided, conv.stride = conv.stride != (1, 1), (1, 1)
            if conv.kernel_size == (1, 1):
                continue  # a shortcut's stride runs beside the block's 3x3 stride, and a 1x1 kernel has no reach
            conv.dilation = conv.padding = (dilation, dilation)
            dilation *= 2 if strided else 1
