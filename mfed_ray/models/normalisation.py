"""The four normalisation policies: what normalises, and which of its tensors leave a client.

| policy    | encoder         | decoder   | sent to the server                                  |
|-----------|-----------------|-----------|-----------------------------------------------------|
| `average` | BatchNorm       | BatchNorm | parameters and statistics                           |
| `local`   | BatchNorm       | BatchNorm | nothing of BatchNorm (FedBN, arXiv 2102.07623)      |
| `frozen`  | FrozenBatchNorm | GroupNorm | GroupNorm; the pretrained statistics never change   |
| `group`   | GroupNorm       | GroupNorm | everything                                          |

Under `frozen` a decoder takes GroupNorm because no pretrained statistics exist for it. "Decoder" stands for the dense
ones; of the feature pyramid and detectors' heads see ``mfed_ray.models.pyramid.optional_norm``, and Panoptic FPN's
semantic branch has GroupNorm under every policy.
"""

from collections.abc import Callable
from typing import Literal

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from mfed_ray.errors import ConfigError

NORMALISATIONS = ("average", "local", "frozen", "group")
MAX_GROUPS = 32

Part = Literal["encoder", "decoder"]
NormLayer = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm (Wu & He, ECCV 2018) with the most groups, at most 32, of equal size and two channels or more.

    One channel a group would be instance normalisation, which turns a 1x1 map into zeros.
    """
    limit = max(1, min(MAX_GROUPS, channels // 2))
    groups = next(number for number in range(limit, 0, -1) if channels % number == 0)
    return nn.GroupNorm(groups, channels)


def norm_layer(policy: str, part: Part) -> NormLayer:
    """The policy's constructor of a layer for a number of channels.

    Raises ConfigError for an unknown policy.
    """
    check_policy(policy)
    if policy == "group" or (policy == "frozen" and part == "decoder"):
        return group_norm
    layer: NormLayer = FrozenBatchNorm2d if policy == "frozen" else nn.BatchNorm2d
    return layer


def check_policy(policy: str) -> None:
    """Raises ConfigError for an unknown policy."""
    if policy not in NORMALISATIONS:
        raise ConfigError(f"model.normalisation: unknown policy {policy!r}, allowed: {', '.join(NORMALISATIONS)}")


def private_names(model: nn.Module, policy: str) -> frozenset[str]:
    """Names in ``model.state_dict()`` that never leave a client.

    `local`: BatchNorm's parameters and statistics. `frozen`: the frozen statistics, alike everywhere. Under every
    policy ``num_batches_tracked``: BatchNorm has a momentum and does not use it.

    Raises ConfigError for an unknown policy.
    """
    check_policy(policy)
    kinds: dict[str, type[nn.Module]] = {"local": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
    layers = {name for name, module in model.named_modules() if policy in kinds and isinstance(module, kinds[policy])}
    return frozenset(
        name for name in model.state_dict() if name.endswith("num_batches_tracked") or name.rpartition(".")[0] in layers
    )
