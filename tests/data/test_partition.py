from typing import Any

import numpy as np
import pytest

from mfed_ray.data.partition import Partition
from mfed_ray.errors import ConfigError, DataError

IDS = [f"image{index:03d}" for index in range(100)]
LABELS = [index % 5 for index in range(100)]
ALL = [
    Partition(scheme="iid"),
    Partition(scheme="quantity", alpha=0.3, minimum=2),
    Partition(scheme="label", alpha=0.1),
    Partition(scheme="label", alpha=1e-9),
]


def _shards(partition: Partition, n_shards: int, seed: int = 0) -> list[list[str]]:
    return partition.shards(IDS, n_shards, np.random.default_rng(seed), LABELS)


@pytest.mark.parametrize("partition", ALL)
@pytest.mark.parametrize("n_shards", [1, 7, 50])
def test_shards_are_disjoint_complete_and_in_order(partition: Partition, n_shards: int) -> None:
    shards = _shards(partition, n_shards)
    assert len(shards) == n_shards
    assert sorted(one for shard in shards for one in shard) == IDS
    assert all(shard == sorted(shard) and len(shard) >= partition.minimum for shard in shards)


@pytest.mark.parametrize("partition", ALL)
def test_deterministic_in_the_generator(partition: Partition) -> None:
    assert _shards(partition, 7) == _shards(partition, 7)
    assert _shards(partition, 7) != _shards(partition, 7, seed=1)


@pytest.mark.parametrize("partition", [Partition(scheme="iid"), Partition(scheme="label", alpha=0.1)])
def test_sizes_differ_by_at_most_one(partition: Partition) -> None:
    assert sorted(len(shard) for shard in _shards(partition, 7)) == [14] * 5 + [15] * 2


def test_quantity_alpha_sets_the_spread_of_sizes() -> None:
    even = [len(shard) for shard in _shards(Partition(scheme="quantity", alpha=1e6), 10)]
    skewed = [len(shard) for shard in _shards(Partition(scheme="quantity", alpha=0.2), 10)]
    assert even == pytest.approx([10] * 10, abs=1)
    assert max(skewed) > 30
    assert min(skewed) == 1


def test_label_alpha_goes_from_one_class_each_to_the_whole_sets_mixture() -> None:
    def share_of_commonest(alpha: float) -> float:
        shards = [shard for seed in range(10) for shard in _shards(Partition(scheme="label", alpha=alpha), 5, seed)]
        counts = [np.bincount([int(one[5:]) % 5 for one in shard], minlength=5) for shard in shards]
        return float(np.mean([count.max() / count.sum() for count in counts]))

    assert share_of_commonest(1e6) < 0.35  # near 4 images of each of the 5 classes
    assert 0.45 < share_of_commonest(1.0) < 0.6
    assert share_of_commonest(0.01) > 0.6  # not 1: shards that want the same class must share its 20 images


def test_more_shards_than_images() -> None:
    with pytest.raises(DataError, match="3 images cannot fill 4 shards of at least 1, allowed are 1 to 3 shards"):
        Partition().shards(IDS[:3], 4, np.random.default_rng(0))
    with pytest.raises(DataError, match="100 images cannot fill 40 shards of at least 3, allowed are 1 to 33 shards"):
        Partition(scheme="quantity", minimum=3).shards(IDS, 40, np.random.default_rng(0))
    with pytest.raises(DataError, match="100 images cannot fill 0 shards"):
        Partition().shards(IDS, 0, np.random.default_rng(0))


@pytest.mark.parametrize(("labels", "found"), [(None, "none"), ([1, 2], "2")])
def test_label_skew_needs_a_label_per_image(labels: list[int] | None, found: str) -> None:
    with pytest.raises(DataError, match=f"needs one label per image, found {found} for 100"):
        Partition(scheme="label").shards(IDS, 4, np.random.default_rng(0), labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "partition.alpha: 0.0 found, must be above 0"),
        ({"minimum": 0}, "partition.minimum: 0 found, must be at least 1"),
    ],
)
def test_fields_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Partition(**arguments)
