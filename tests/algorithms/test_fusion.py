"""Fusing encoders: whole where they are alike, block by block where they are not."""

import numpy as np
import pytest

from mfed_ray.algorithms.fusion import check_overlap, common_names, fuse, summed
from mfed_ray.errors import ConfigError
from mfed_ray.experiment.models import make_model
from mfed_ray.loaded_model import float_values
from mfed_ray.messages import Params
from mfed_ray.params import encoder_of
from tests.conftest import MakeExperiment


def filled(value: float, names: dict[str, tuple[int, ...]]) -> Params:
    return {name: np.full(shape, value, np.float32) for name, shape in names.items()}


STEM = {"encoder.conv1.weight": (4, 3), "encoder.bn1.weight": (4,)}
BLOCK = {"encoder.layer1.0.conv1.weight": (4, 4), "encoder.layer1.0.bn1.weight": (4,)}
WIDE = {"encoder.layer1.0.conv1.weight": (8, 4), "encoder.layer1.0.bn1.weight": (4,)}
MORE = {"encoder.layer1.1.conv1.weight": (4, 4)}


def test_a_block_counts_as_a_whole() -> None:
    # the normalisation of layer1.0 has the same shape in both, but its convolution has not
    assert common_names(filled(0, STEM | BLOCK), filled(0, STEM | WIDE)) == set(STEM)
    # a block that only one of them has is nobody else's
    assert common_names(filled(0, STEM | BLOCK | MORE), filled(0, STEM | BLOCK)) == {*STEM, *BLOCK}
    # the stem, which has no number in its names, is one block
    other = {"encoder.conv1.weight": (4, 1), "encoder.bn1.weight": (4,)}
    assert common_names(filled(0, STEM | BLOCK), filled(0, other | BLOCK)) == set(BLOCK)


def test_fusion_by_hand_where_encoders_agree_in_parts() -> None:
    encoders = {"a": filled(1, STEM | BLOCK), "b": filled(4, STEM | BLOCK), "c": filled(10, STEM | WIDE)}
    everybody = {"a": 1.0, "b": 2.0, "c": 3.0}
    fused = fuse(encoders, dict.fromkeys("abc", everybody))
    # stem: (1 * 1 + 2 * 4 + 3 * 10) / 6 = 6.5 for all; layer1.0: (1 + 8) / 3 = 3 for a and b, c's own for c
    for group, block in (("a", 3.0), ("b", 3.0), ("c", 10.0)):
        assert {float(value.flat[0]) for name, value in fused[group].items() if name in STEM} == {6.5}
        assert {float(value.flat[0]) for name, value in fused[group].items() if name in BLOCK} == {block}
        assert list(fused[group]) == list(encoders[group])
    assert fused["a"] is fused["b"]  # one structure, one set of shares: sent once


def test_a_group_alone_keeps_its_encoder_bit_for_bit() -> None:
    values = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    encoders: dict[str, Params] = {"a": {"encoder.w": values}, "b": {"encoder.w": values + 1}}
    fused = fuse(encoders, {"a": {"a": 3.0}, "b": {"b": 1.0, "a": 1.0}})
    assert np.array_equal(fused["a"]["encoder.w"], values)
    np.testing.assert_allclose(fused["b"]["encoder.w"], values + 0.5, rtol=1e-6)


def test_sums_of_updates_by_hand() -> None:
    """a moves by 1 from 1, b by 3 from 5, c, whose layer1.0 is wider, by 4 from 10. Statistics are means."""
    running = {"encoder.bn1.running_mean": (4,)}
    names = {"a": STEM | running | BLOCK, "b": STEM | running | BLOCK, "c": STEM | running | WIDE}
    starts = {group: filled(value, names[group]) for group, value in (("a", 1.0), ("b", 5.0), ("c", 10.0))}
    ends = {group: filled(value, names[group]) for group, value in (("a", 2.0), ("b", 8.0), ("c", 14.0))}
    found = summed(ends, starts, dict.fromkeys("abc", dict.fromkeys("abc", 1.0)))
    # the stem goes by 1 + 3 + 4, layer1.0 of a and b by 1 + 3, that of c by its own 4
    for group, stem, block in (("a", 9.0, 5.0), ("b", 13.0, 9.0), ("c", 18.0, 14.0)):
        assert {float(value.flat[0]) for name, value in found[group].items() if name in STEM} == {stem}
        assert {float(value.flat[0]) for name, value in found[group].items() if "layer1" in name} == {block}
        assert {float(value.flat[0]) for name, value in found[group].items() if name in running} == {8.0}
        assert list(found[group]) == list(starts[group])


def test_a_sum_with_nobody_is_the_own_encoder_and_one_start_makes_one_tree() -> None:
    rng = np.random.default_rng(0)
    start: Params = {"encoder.w": rng.standard_normal((4, 4)).astype(np.float32)}
    ends: dict[str, Params] = {group: {"encoder.w": start["encoder.w"] + rng.normal()} for group in "abc"}
    found = summed(
        ends, dict.fromkeys("abc", start), {"a": {"a": 1.0, "b": 1.0}, "b": {"a": 1.0, "b": 1.0}, "c": {"c": 1.0}}
    )
    assert found["c"] is ends["c"]
    assert found["a"] is found["b"]


def test_real_encoders_of_one_family_share_their_common_blocks(tiny: MakeExperiment) -> None:
    small, large = (
        encoder_of(float_values(make_model(tiny(model={"encoder": name}), ()))) for name in ("resnet18", "resnet34")
    )
    shared = {".".join(name.split(".")[1:3]) for name in common_names(small, large) if name.startswith("encoder.layer")}
    assert shared == {f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)}
    assert "encoder.conv1.weight" in common_names(small, large)


def test_nothing_alike_is_refused() -> None:
    encoders = {"a": filled(0, {"encoder.conv1.weight": (4, 3)}), "b": filled(0, {"encoder.conv1.weight": (8, 3)})}
    with pytest.raises(ConfigError, match=r"encoder.conv1.weight is \(4, 3\) at a and \(8, 3\) at b; give the clients"):
        check_overlap(encoders)
    missing = {"a": filled(0, STEM), "b": filled(0, {"encoder.features.0.weight": (4,)})}
    with pytest.raises(ConfigError, match=r"encoder.conv1.weight is \(4, 3\) at a and missing at b"):
        check_overlap(missing)
    check_overlap({"a": filled(0, STEM)})
    check_overlap({"a": filled(0, STEM | BLOCK), "b": filled(0, STEM | WIDE)})
