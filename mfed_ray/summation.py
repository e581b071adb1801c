"""Weighted means of clients' parameters: the same bits, whoever adds up which part of them.

The clients of a mean have places 0 to n - 1. Their sum is a binary tree: the node of level l at place p, a multiple of
2^l, is the sum over the places p to p + 2^l - 1, its left half plus its right half. A process that has all places of a
node can compute it alone. So each process adds up the clients that it served, in float64, and whoever joins the nodes
gets the bits that a single process would have got. (Pairwise summation: Higham, The Accuracy of Floating Point
Summation, SIAM Journal on Scientific Computing 14, 1993.)
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfed_ray.messages import Params

Flat = NDArray[Any]
Buffer = NDArray[np.float64]

_CHUNK = 1 << 16
"""Numbers that are added up at a time: few calls, and partial sums that stay near the processor."""


@dataclass(frozen=True)
class PartialSum:
    """A node of the tree: sum_k w_k x_k over the 2^level places from ``place`` on.

    ``params``: at level 0 a client's own x_k, float32; above, the sum, float64. ``weight``: sum_k w_k.
    """

    place: int
    level: int
    weight: float
    params: Mapping[str, Flat]

    def is_half_before(self, right: "PartialSum") -> bool:
        """Whether the two are the halves of one node."""
        size = 1 << self.level
        return self.level == right.level and self.place % (2 * size) == 0 and right.place == self.place + size


def add(nodes: Sequence[PartialSum], new: PartialSum) -> list[PartialSum]:
    """The nodes with one more behind them, halves joined. What ``nodes`` have in float64 is used up."""
    joined = [*nodes, new]
    while len(joined) > 1 and joined[-2].is_half_before(joined[-1]):
        right, left = joined.pop(), joined.pop()
        joined.append(_join(left, right))
    return joined


def weighted_mean(trees: Sequence[Params], weights: Sequence[float]) -> Params:
    """sum_k w_k x_k / sum_k w_k with places in the order given. See ``mean``."""
    return mean([PartialSum(place, 0, *pair) for place, pair in enumerate(zip(weights, trees, strict=True))])


def mean(nodes: Sequence[PartialSum]) -> Params:
    """The weighted mean over all places, float32, from nodes that together have each place once.

    One client's parameters come back bit for bit. The sum is rounded once, at the end. Takes no memory but the
    result's, and as many threads as there are cores, which changes no bit.
    """
    ordered = sorted(nodes, key=lambda node: node.place)
    first = ordered[0].params
    if len(ordered) == 1 and ordered[0].level == 0:
        return first
    result = {name: np.empty(value.shape, np.float32) for name, value in first.items()}
    adder = _Adder(ordered)
    chunks = [
        ([node.params[name].reshape(-1)[part] for node in ordered], result[name].reshape(-1)[part])
        for name in result
        for part in _parts(result[name].size)
    ]
    threads = min(os.cpu_count() or 1, len(chunks))
    if threads < 2:
        adder.write(chunks)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(adder.write, [chunks[thread::threads] for thread in range(threads)]))
    return result


class _Adder:
    """Adds up the nodes of a mean, a chunk at a time."""

    def __init__(self, ordered: Sequence[PartialSum]) -> None:
        self._weights = [node.weight for node in ordered]
        self._joins, self._depth, self._total = _plan(ordered)

    def write(self, chunks: Sequence[tuple[Sequence[Flat], Flat]]) -> None:
        """For each chunk, as the nodes have it: their mean into the array beside it."""
        stack = np.empty((self._depth, _CHUNK), np.float64)
        for values, out in chunks:
            top = 0
            for value, weight, joins in zip(values, self._weights, self._joins, strict=True):
                _scale(value, weight, stack[top, : out.size])
                for _ in range(joins):
                    top -= 1
                    stack[top, : out.size] += stack[top + 1, : out.size]
                top += 1
            np.divide(stack[0, : out.size], self._total, out=stack[0, : out.size])
            out[:] = stack[0, : out.size]


def _plan(ordered: Sequence[PartialSum]) -> tuple[list[int], int, float]:
    """How many sums are joined after each node; how many stand beside each other at most; the weight of all.

    Halves are joined as soon as both are there, and at the end what is short of places, from the right.
    """
    joins, depth = [], 0
    stack: list[PartialSum] = []
    for node in ordered:
        stack.append(node)
        depth = max(depth, len(stack))
        before = len(stack)
        while len(stack) > 1 and (stack[-2].is_half_before(stack[-1]) or node is ordered[-1]):
            right, left = stack.pop(), stack.pop()
            stack.append(PartialSum(left.place, left.level + 1, left.weight + right.weight, {}))
        joins.append(before - len(stack))
    return joins, depth, stack[0].weight


def _join(left: PartialSum, right: PartialSum) -> PartialSum:
    """The node of which the two are halves, in the left one's float64 arrays if it has such."""
    params: dict[str, Flat] = {}
    buffer = np.empty(_CHUNK, np.float64)
    for name, value in left.params.items():
        total: Buffer = value if left.level else np.empty(value.shape, np.float64)
        mine, other, flat = value.reshape(-1), right.params[name].reshape(-1), total.reshape(-1)
        for part in _parts(value.size):
            out = flat[part]
            if not left.level:
                _scale(mine[part], left.weight, out)
            out += _scale(other[part], right.weight, buffer[: out.size])
        params[name] = total
    return PartialSum(left.place, left.level + 1, left.weight + right.weight, params)


def _scale(values: Flat, weight: float, out: Buffer) -> Buffer:
    """A client's w_k x_k; a sum as it is."""
    if values.dtype == np.float64:
        np.copyto(out, values)
    else:
        np.multiply(values, weight, out=out, dtype=np.float64)
    return out


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK))
