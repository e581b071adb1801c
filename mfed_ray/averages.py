"""Weighted means of clients' parameters: the same bits, whoever averages which part of them.

The clients of a mean have places 0 to n - 1. Their mean is a binary tree: the node of level l at place p, a multiple of
2^l, is the mean over the places p to p + 2^l - 1, made of its left and its right half. A process that has all places of
a node can compute it alone. So each process averages the clients that it served, and whoever joins the nodes gets the
bits that a single process would have got.

Two halves a and b with weights v <= w are joined as b + (a - b) v / (v + w), in float32. Equal halves come back bit for
bit, but for the sign of a zero. Each level averages the errors of the one below. So among like weights the error's
expected square stays below a quarter of a step of float32 squared, three times that of a single rounding, however many
clients there are; where one weight outweighs all others, it is that of one rounding for each level. (Trees of sums:
Higham, The Accuracy of Floating Point Summation, SIAM Journal on Scientific Computing 14, 1993.)
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfed_ray.messages import Params

Flat = NDArray[np.float32]

_CHUNK = 1 << 16
"""Numbers that are averaged at a time: few calls, and partial means that stay near the processor."""

_WORTH_A_THREAD = 1 << 20
"""Numbers whose mean takes longer than a thread takes to start."""


@dataclass(frozen=True)
class PartialMean:
    """A node of the tree: the mean over the 2^level places from ``place`` on, and the sum of their weights.

    ``params``: at level 0 a client's own. Arrays that somebody else needs as they are must be read-only.
    """

    place: int
    level: int
    weight: float
    params: Params

    def is_half_before(self, right: "PartialMean") -> bool:
        """Whether the two are the halves of one node."""
        size = 1 << self.level
        return self.level == right.level and self.place % (2 * size) == 0 and right.place == self.place + size


def add(nodes: Sequence[PartialMean], new: PartialMean) -> list[PartialMean]:
    """The nodes with one more behind them, halves joined. Arrays that can be written to are used up."""
    joined = [*nodes, new]
    while len(joined) > 1 and joined[-2].is_half_before(joined[-1]):
        right, left = joined.pop(), joined.pop()
        joined.append(_join(left, right))
    return joined


def weighted_mean(trees: Sequence[Params], weights: Sequence[float]) -> Params:
    """sum_k w_k x_k / sum_k w_k with places in the order given. See ``mean``."""
    return mean([PartialMean(place, 0, *pair) for place, pair in enumerate(zip(weights, trees, strict=True))])


def mean(nodes: Sequence[PartialMean]) -> Params:
    """The weighted mean over all places, float32, from nodes that together have each place once.

    One client's parameters come back bit for bit. Takes no memory but the result's, and of large trees as many threads
    as there are cores, which changes no bit. Raises ValueError unless the weights add up to more than 0.
    """
    ordered = sorted(nodes, key=lambda node: node.place)
    first = ordered[0].params
    if not (total := sum(node.weight for node in ordered)) > 0:
        raise ValueError(f"mean: the weights add up to {total}, which must be more than 0")
    if len(ordered) == 1:
        return first
    result = {name: np.empty(value.shape, np.float32) for name, value in first.items()}
    averager = _Averager(ordered)
    size = sum(value.size for value in result.values())
    chunks = [
        ([node.params[name].reshape(-1)[part] for node in ordered], result[name].reshape(-1)[part])
        for name in result
        for part in _parts(result[name].size)
    ]
    threads = min(os.cpu_count() or 1, size // _WORTH_A_THREAD)
    if threads < 2:
        averager.write(chunks)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(averager.write, [chunks[thread::threads] for thread in range(threads)]))
    return result


class _Averager:
    """Joins the nodes of a mean, a chunk at a time."""

    def __init__(self, ordered: Sequence[PartialMean]) -> None:
        self._joins, self._depth = _plan(ordered)

    def write(self, chunks: Sequence[tuple[Sequence[Flat], Flat]]) -> None:
        """For each chunk, as the nodes have it: their mean into the array beside it."""
        buffers, scratch = np.empty((self._depth, _CHUNK), np.float32), np.empty(_CHUNK, np.float32)
        for values, out in chunks:
            stack: list[Flat] = []
            for value, weights in zip(values, self._joins, strict=True):
                stack.append(value)
                for left, right in weights:
                    other, own = stack.pop(), stack.pop()
                    joined = buffers[len(stack), : out.size]
                    _join_values((own, left), (other, right), joined, scratch)
                    stack.append(joined)
            out[:] = stack[0]


def _plan(ordered: Sequence[PartialMean]) -> tuple[list[list[tuple[float, float]]], int]:
    """What is joined after each node, as weights of the halves; how many means stand beside each other at most.

    Halves are joined as soon as both are there, and at the end what is short of places, from the right.
    """
    joins, depth = [], 0
    stack: list[PartialMean] = []
    for node in ordered:
        stack.append(node)
        depth = max(depth, len(stack))
        weights = []
        while len(stack) > 1 and (stack[-2].is_half_before(stack[-1]) or node is ordered[-1]):
            right, left = stack.pop(), stack.pop()
            stack.append(PartialMean(left.place, left.level + 1, left.weight + right.weight, {}))
            weights.append((left.weight, right.weight))
        joins.append(weights)
    return joins, depth


def _join(left: PartialMean, right: PartialMean) -> PartialMean:
    """The node of which the two are halves, in arrays of theirs where these can be written to."""
    params, scratch = {}, np.empty(_CHUNK, np.float32)
    for name, value in left.params.items():
        spare = (array for array in (value, right.params[name]) if array.flags.writeable and array.flags.c_contiguous)
        joined = next(spare, None)
        joined = np.empty(value.shape, np.float32) if joined is None else joined
        mine, other, out = value.reshape(-1), right.params[name].reshape(-1), joined.reshape(-1)
        for part in _parts(out.size):
            _join_values((mine[part], left.weight), (other[part], right.weight), out[part], scratch)
        params[name] = joined
    return PartialMean(left.place, left.level + 1, left.weight + right.weight, params)


def _join_values(left: tuple[Flat, float], right: tuple[Flat, float], out: Flat, scratch: Flat) -> None:
    """The mean of two halves, each with its weight, into ``out``, which may be one of them."""
    (light, less), (heavy, more) = (left, right) if left[1] <= right[1] else (right, left)
    difference = np.subtract(light, heavy, out=scratch[: out.size])
    difference *= np.float32(less / (less + more) if less else 0.0)
    np.add(heavy, difference, out=out)


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK))
