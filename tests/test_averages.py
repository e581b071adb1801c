"""The tree of partial means: by hand, against float64, and the same bits however the clients are cut into runs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from mfed_ray import averages
from mfed_ray.averages import PartialMean, add, mean, weighted_mean
from mfed_ray.messages import Params

CHUNK = averages._CHUNK
SHAPES = {"encoder.w": (3, 5), "encoder.scale": (), "encoder.nothing": (0,), "decoders.a.w": (70,)}
Shapes = dict[str, tuple[int, ...]]


def tree(*values: float) -> Params:
    return read_only({"w": np.array(values, np.float32)})


def read_only(params: Params) -> Params:
    """As what a client keeps or what lies in the store is."""
    for value in params.values():
        value.setflags(write=False)
    return params


def leaves(numbers: Sequence[float], weights: Sequence[float] | None = None) -> list[PartialMean]:
    """A client of one number at each place."""
    weights = [1.0] * len(numbers) if weights is None else weights
    return [PartialMean(place, 0, weights[place], tree(number)) for place, number in enumerate(numbers)]


def folded(nodes: Sequence[PartialMean]) -> list[PartialMean]:
    """A run of neighbours as a process averages it."""
    total: list[PartialMean] = []
    for node in nodes:
        total = add(total, node)
    return total


def drawn(count: int, seed: int, shapes: Shapes = SHAPES) -> list[PartialMean]:
    """Clients of normal numbers over six orders of magnitude, with numbers of examples as weights."""
    rng = np.random.default_rng([seed, count])

    def values(shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, shape), np.float32)

    return [
        PartialMean(place, 0, float(rng.integers(1, 1000)), read_only({name: values(s) for name, s in shapes.items()}))
        for place in range(count)
    ]


def cuts(nodes: Sequence[PartialMean], seed: int) -> Iterator[list[PartialMean]]:
    """The nodes that several processes hand in, in any order: all in one run, each alone, and by chance."""
    rng = np.random.default_rng([seed, len(nodes)])
    inner = range(1, len(nodes))
    for inside in ([], list(inner), *(sorted(rng.permutation(inner)[: rng.integers(len(nodes))]) for _ in range(4))):
        ends = [0, *map(int, inside), len(nodes)]
        means = [node for start, end in pairwise(ends) for node in folded(nodes[start:end])]
        yield [means[index] for index in rng.permutation(len(means))]


def weighted(nodes: Sequence[PartialMean]) -> Params:
    return weighted_mean([node.params for node in nodes], [node.weight for node in nodes])


def exact(nodes: Sequence[PartialMean], name: str) -> NDArray[np.float64]:
    """The weighted mean in float64."""
    weights = np.array([node.weight for node in nodes])
    total = np.tensordot(weights, np.stack([node.params[name].astype(np.float64) for node in nodes]), 1)
    return np.asarray(total / weights.sum())


def assert_same_bits(a: Params, b: Params) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        other = b[name]
        assert value.dtype == other.dtype == np.float32
        assert value.shape == other.shape
        assert value.tobytes() == other.tobytes(), name


def test_weighted_mean_by_hand() -> None:
    # (1 * 1 + 3 * 5) / 4,  (1 * 2 - 3 * 2) / 4
    assert weighted_mean([tree(1, 2), tree(5, -2)], [1, 3])["w"].tolist() == [4, -1]


def test_places_of_a_tree_by_hand() -> None:
    """Seven places: ((0 + 1) + (2 + 3)) + ((4 + 5) + 6); the right half is short of place 7.

    A number of 1 beside 2^60 is lost: float32 has steps of 2^37 there. So 1 is in the mean or not, as means are nested.
    """
    big = 2.0**60
    seventh = pytest.approx(1 / 7, rel=1e-6)
    # (big + 1)/2 = big/2 and (-big + 1)/2 = -big/2: 0; one after the other: big/2, 0, and with the last 1 a quarter
    assert mean(leaves([big, 1, -big, 1]))["w"].tolist() == [0]
    # 4 * (1 + 0 + 0 + 0)/4 + 3 * (2 * (big - big)/2 + 0)/3; one after the other the 1 is lost at big
    assert mean(leaves([1, 0, 0, 0, big, -big, 0]))["w"].tolist() == [seventh]
    # ((big + 0)/2 * 2 - big)/3 = 0; with the last place on top of the six the 1 is lost
    assert mean(leaves([1, 0, 0, 0, big, 0, -big]))["w"].tolist() == [seventh]
    # (big + 1)/2 * 2 - big = 0; if the places 4 and 5 went to the left half one by one, the 1 would be there
    assert mean(leaves([0, 0, 0, 0, big, 1, -big]))["w"].tolist() == [0]


def test_the_lighter_half_moves_the_heavier() -> None:
    # 2^30 + (2^30 + 128 - 2^30) * 1/4: exact; from the other end 2^30 + 128 - 128 * 3/4 would be, too
    assert weighted_mean([tree(2**30 + 128), tree(2**30)], [1, 3])["w"].tolist() == [2**30]
    # a weight of 0 changes no bit, on either side
    assert weighted_mean([tree(0.1), tree(1e30)], [1, 0])["w"].tolist() == tree(0.1)["w"].tolist()
    assert weighted_mean([tree(1e30), tree(0.1)], [0, 1])["w"].tolist() == tree(0.1)["w"].tolist()


def test_partial_means_by_hand() -> None:
    # 7 = 4 + 2 + 1 places: three nodes; means of the numbers 1 to 7
    nodes = folded(leaves([1, 2, 3, 4, 5, 6, 7], [1, 2, 1, 2, 1, 2, 1]))
    assert [(node.place, node.level, node.weight) for node in nodes] == [(0, 2, 6), (4, 1, 3), (6, 0, 1)]
    assert [node.params["w"].tolist() for node in nodes] == [
        [pytest.approx((1 + 4 + 3 + 8) / 6, rel=1e-6)],
        [pytest.approx((5 + 12) / 3, rel=1e-6)],
        [7],
    ]
    assert mean(nodes)["w"].tolist() == [pytest.approx(4, rel=1e-6)]  # (16 + 17 + 7) / 10


def test_a_run_that_starts_anywhere_by_hand() -> None:
    # places 3 to 6: 3 is a right half whose left one is elsewhere, 4 and 5 are a node, 6 is short of 7
    nodes = folded(leaves(range(8))[3:7])
    assert [(node.place, node.level, node.params["w"].tolist()) for node in nodes] == [
        (3, 0, [3]),
        (4, 1, [4.5]),
        (6, 0, [6]),
    ]
    left, right = leaves(range(8))[2], leaves(range(8))[3]
    assert left.is_half_before(right)
    assert not right.is_half_before(leaves(range(8))[4])
    assert not right.is_half_before(left)
    assert not left.is_half_before(nodes[1])


@pytest.mark.parametrize("count", range(1, 21))
def test_same_bits_whoever_averages_what(count: int) -> None:
    """Weights are whole numbers here, as numbers of examples are: their sum is exact in any order."""
    for seed in range(2):
        nodes = drawn(count, seed)
        expected = weighted(nodes)
        for means in cuts(nodes, seed):
            assert_same_bits(mean(means), expected)


@pytest.mark.parametrize("count", range(1, 21))
def test_each_level_rounds_to_float32(count: int) -> None:
    """A join rounds by half a step of its result, and a difference and a product by less, whatever its weights."""
    nodes = drawn(count, seed=7)
    levels = (count - 1).bit_length()
    for name, value in weighted(nodes).items():
        largest = np.abs([node.params[name] for node in nodes]).max(0)
        assert (np.abs(value - exact(nodes, name)) <= 1.5 * levels * np.spacing(largest)).all()


def test_errors_of_many_clients_average_out() -> None:
    """Each level halves the squared error of the one below and adds that of one rounding, 1/12 of a step squared.

    Of halves of equal weight every second sum lies between two numbers: 1/8. So it is at most (1 + 1/2 + ...) / 8.
    """
    rng = np.random.default_rng(0)
    start = rng.uniform(1, 2, 100_000).astype(np.float32)  # one step of float32 for all numbers
    trees: list[Params] = [
        {"w": (start + 0.01 * rng.random(start.size)).clip(1, 2).astype(np.float32)} for _ in range(256)
    ]
    nodes = [PartialMean(place, 0, 1.0, tree) for place, tree in enumerate(trees)]
    error = weighted(nodes)["w"] - exact(nodes, "w")
    step = float(np.finfo(np.float32).eps)
    assert step**2 / 8 < (error**2).mean() < step**2 / 4


@pytest.mark.parametrize("count", range(1, 21))
def test_places_from_0_on_leave_as_few_nodes_as_can_be(count: int) -> None:
    """A node for each bit of the count, the largest first, whose weights add up."""
    nodes = folded(drawn(count, seed=1))
    assert len(nodes) == count.bit_count()
    assert [1 << node.level for node in nodes] == [1 << bit for bit in range(5, -1, -1) if count >> bit & 1]
    assert sum(node.weight for node in nodes) == sum(node.weight for node in drawn(count, seed=1))


def test_a_single_client_comes_back_bit_for_bit() -> None:
    # -0, the least, the most, -inf, and a signalling nan, which any arithmetic would change
    bits = np.array([0x80000000, 0x00000001, 0x7F7FFFFF, 0xFF800000, 0x7F812345], np.uint32)
    (node,) = folded([PartialMean(0, 0, 0.3, {"w": bits.view(np.float32)})])
    assert mean([node])["w"].view(np.uint32).tolist() == bits.tolist()
    assert weighted_mean([node.params], [0.3])["w"].view(np.uint32).tolist() == bits.tolist()


@pytest.mark.parametrize("count", range(1, 21))
def test_equal_models_come_back_bit_for_bit(count: int) -> None:
    (first, *_) = drawn(1, seed=8)
    weights = [node.weight for node in drawn(count, seed=9)]
    assert_same_bits(weighted_mean([first.params] * count, weights), first.params)
    largest = float(np.finfo(np.float32).max)
    assert weighted_mean([tree(largest)] * count, weights)["w"].tolist() == [largest]


def test_joining_means_in_place() -> None:
    """No more than a mean of each level is held: it is made in a client's own copy, if it may be, and goes on there."""
    first: Params = {"w": np.array([1], np.float32)}
    nodes = folded([PartialMean(0, 0, 1.0, first), *leaves([1, 2, 3])[1:]])
    assert nodes[0].params["w"] is first["w"]
    (node,) = add(nodes, leaves([1, 2, 3, 4])[3])
    assert node.params["w"] is first["w"]
    assert first["w"].tolist() == [2.5]
    second: Params = {"w": np.array([3], np.float32)}
    (node,) = folded([leaves([1])[0], PartialMean(1, 0, 1.0, second)])
    assert node.params["w"] is second["w"]
    assert second["w"].tolist() == [2]


def test_what_clients_sent_is_left_alone() -> None:
    nodes = drawn(7, seed=2)
    before = [{name: value.copy() for name, value in node.params.items()} for node in nodes]
    means = folded(nodes)
    first = mean(means)
    assert_same_bits(mean(means), first)  # nor does a mean use up the nodes
    weighted(nodes)
    for node, copy in zip(nodes, before, strict=True):
        assert_same_bits(node.params, copy)
    assert not any(np.shares_memory(first[name], node.params[name]) for node in nodes for name in first)


@pytest.mark.parametrize("order", ["F", "strided"])
def test_arrays_of_any_layout(order: str) -> None:
    nodes = drawn(3, seed=3, shapes={"w": (4, 6)})
    other = [PartialMean(node.place, 0, node.weight, {"w": _laid_out(node.params["w"], order)}) for node in nodes]
    assert_same_bits(mean(folded(other)), weighted(nodes))


def _laid_out(value: NDArray[np.float32], order: str) -> NDArray[np.float32]:
    if order == "F":
        return np.asfortranarray(value)
    wide = np.zeros((4, 12), np.float32)
    wide[:, ::2] = value
    return wide[:, ::2]


@pytest.mark.parametrize("cores", [None, 1, 3])
@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_chunks_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch, size: int, cores: int | None) -> None:
    nodes = drawn(5, seed=4, shapes={"w": (size,), "scale": (), "nothing": (0,)})
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(averages, "_WORTH_A_THREAD", 1)
    whole = mean(folded(nodes))
    assert_same_bits(weighted(nodes), whole)
    reference = exact(nodes, "w")
    assert np.allclose(whole["w"], reference, rtol=1e-6, atol=1e-3)  # values are of up to thousands
    monkeypatch.setattr(averages, "_CHUNK", 1000)
    assert_same_bits(mean(folded(nodes)), whole)


@pytest.mark.parametrize("shapes", [{}, {"nothing": (0,)}, {"scale": ()}], ids=str)
def test_trees_with_hardly_anything(shapes: Shapes) -> None:
    nodes = drawn(3, seed=5, shapes=shapes)
    for means in (nodes, folded(nodes)):
        result = mean(means)
        assert {name: value.shape for name, value in result.items()} == shapes
        assert all(np.allclose(value, exact(nodes, name), rtol=1e-5) for name, value in result.items())


def test_weights_are_added_along_the_tree_as_well() -> None:
    """.3 + .4 + .5 + .6 is 1.8 by halves and 1.7999999999999998 from left to right."""
    up = float(np.nextafter(np.float32(1), np.float32(2)))
    trees: list[Params] = [{"w": np.array([value], np.float32)} for value in (1.0, up, up, 1.0)]
    weights = [0.3, 0.4, 0.5, 0.6]
    nodes: list[PartialMean] = []
    for place, (weight, tree) in enumerate(zip(weights, trees, strict=True)):
        nodes = add(nodes, PartialMean(place, 0, weight, tree))
    assert len(nodes) == 1
    assert np.array_equal(mean(nodes)["w"], weighted_mean(trees, weights)["w"])


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0]])
def test_weights_without_a_positive_sum_are_refused(weights: Sequence[float]) -> None:
    with pytest.raises(ValueError, match=r"^mean: the weights add up to \S+, which must be more than 0$"):
        weighted_mean([tree(1), tree(2)], weights)
