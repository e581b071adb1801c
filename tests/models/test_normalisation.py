"""Normalisation policies: the layers they build and the tensors they keep on a client."""

from typing import get_args

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from mfed_ray.errors import ConfigError
from mfed_ray.models.normalisation import NORMALISATIONS, Part, group_norm, norm_layer, private_names


@pytest.mark.parametrize(
    ("policy", "encoder", "decoder"),
    [
        ("average", nn.BatchNorm2d, nn.BatchNorm2d),
        ("local", nn.BatchNorm2d, nn.BatchNorm2d),
        ("frozen", FrozenBatchNorm2d, nn.GroupNorm),
        ("group", nn.GroupNorm, nn.GroupNorm),
    ],
)
def test_layers_of_each_policy(policy: str, encoder: type[nn.Module], decoder: type[nn.Module]) -> None:
    parts = dict(zip(get_args(Part), (encoder, decoder), strict=True))
    assert {part: type(norm_layer(policy, part)(8)) for part in parts} == parts


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (2, 1), (3, 1), (16, 8), (24, 12), (48, 24), (64, 32), (256, 32), (144, 24)]
)
def test_groups_divide_the_channels_into_two_or_more(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_group_norm_keeps_a_map_of_one_pixel_apart_from_zero() -> None:
    out = group_norm(4)(torch.tensor([1.0, 3.0, 0.0, 0.0]).reshape(1, 4, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.tensor([-1.0, 1.0, 0.0, 0.0]), atol=1e-4, rtol=0)


def test_private_names_of_each_policy() -> None:
    def names(policy: str) -> frozenset[str]:
        parts: tuple[Part, Part] = ("encoder", "decoder")
        model = nn.ModuleDict({part: nn.Sequential(nn.Conv2d(1, 4, 1), norm_layer(policy, part)(4)) for part in parts})
        return private_names(model, policy)

    counters = {"encoder.1.num_batches_tracked", "decoder.1.num_batches_tracked"}
    affine_and_statistics = {"weight", "bias", "running_mean", "running_var"}
    assert names("average") == counters
    assert names("local") == counters | {f"{p}.1.{n}" for p in ("encoder", "decoder") for n in affine_and_statistics}
    assert names("frozen") == {f"encoder.1.{name}" for name in affine_and_statistics}
    assert names("group") == set()


def test_unknown_policy_names_the_key_and_the_allowed() -> None:
    message = f"model.normalisation: unknown policy 'batch', allowed: {', '.join(NORMALISATIONS)}"
    with pytest.raises(ConfigError, match=message):
        norm_layer("batch", "encoder")
    with pytest.raises(ConfigError, match=message):
        private_names(nn.Conv2d(1, 1, 1), "batch")
