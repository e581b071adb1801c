"""What fusing does in a round, block by block: how far steps agree within and between task groups, and their lengths.

Client k of group t moves its encoder from E_t by u_k. With the weights w_k of the group's mean, divided by their sum,
Ubar_t = sum_k w_k u_k is the group's own step. Its fused step is E_t' - E_t, where E_t' is the encoder with which it
goes on; under `judged` that is its own, and who follows another has no row. For each block of the encoder
(``mfed_ray.algorithms.fusion.blocks``), over its learned parameters:

    between s and t   <Ubar_s, Ubar_t> / (||Ubar_s|| ||Ubar_t||)
    within t          sum_{k != l} w_k w_l <u_k, u_l>  /  sum_{k != l} w_k w_l ||u_k|| ||u_l||
                      = (||Ubar_t||^2 - sum_k w_k^2 ||u_k||^2) / ((sum_k w_k ||u_k||)^2 - sum_k w_k^2 ||u_k||^2)

The second is a mean of the cosines of two clients, and of two clients their cosine. It needs of a client its squared
length alone. So of a single client a number for each block reaches the server, and no encoder.

A mean has less noise than a client. Two groups of m clients each that want the same agree by m rho / (1 + (m - 1) rho)
where two of their clients agree by rho (Spearman and Brown, 1910).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.contract import BlockSteps
from mfed_ray.algorithms.fusion import blocks, common_names
from mfed_ray.messages import Params
from mfed_ray.params import STATISTICS

_LENGTH = "length/"


@dataclass(frozen=True)
class GroupRound:
    """A group's round: E_t, the mean of its clients' encoders, E_t', and of each client w_k and what it sent."""

    start: Params
    mean: Params
    end: Params
    clients: Sequence[tuple[float, Mapping[str, float]]]
    """w_k before they are divided by their sum, and numbers among which are ``squared_lengths``."""


def squared_lengths(encoder: Params, start: Params) -> dict[str, float]:
    """||u_k||^2 by block, to be sent, of a client's ``encoder`` that began the round at ``start``."""
    move = _move(encoder, start)
    return {_LENGTH + block: _inner(move, move, names) for block, names in blocks(move).items()}


def measured(rounds: Mapping[str, GroupRound]) -> tuple[BlockSteps, ...]:
    """All that is there to tell of the groups: each with itself, then each ordered pair in the blocks that are alike.

    An agreement is None where there are no two clients, and where a step has no length.
    """
    moves = {group: _move(one.mean, one.start) for group, one in rounds.items()}
    rows, lengths = [], dict[tuple[str, str], float]()
    for group, move in moves.items():
        one = rounds[group]
        fused = squared_lengths(one.end, one.start)
        for block, names in blocks(move).items():
            squared = _inner(move, move, names)
            lengths[group, block] = length = sqrt(squared)
            agreement = _within(squared, one.clients, _LENGTH + block)
            rows.append(BlockSteps(group, group, block, agreement, length, sqrt(fused[_LENGTH + block])))
    for s, t in combinations(moves, 2):
        alike = common_names(moves[s], moves[t])
        for block, names in blocks(moves[s]).items():
            if names[0] in alike:
                agreement = _ratio(_inner(moves[s], moves[t], names), lengths[s, block] * lengths[t, block])
                rows += [BlockSteps(s, t, block, agreement), BlockSteps(t, s, block, agreement)]
    return tuple(rows)


def _within(squared: float, clients: Sequence[tuple[float, Mapping[str, float]]], name: str) -> float | None:
    """From ||Ubar||^2 and the squared lengths of the clients that have the block, which they sent under the name."""
    weights, lengths = np.array([(weight, sent[name]) for weight, sent in clients if name in sent]).reshape(-1, 2).T
    parts = weights / weights.sum() * np.sqrt(lengths)
    pairs = 2.0 * float((parts[1:] * np.cumsum(parts)[:-1]).sum())  # no difference, which would leave rounding errors
    return _ratio(squared - float((parts**2).sum()), pairs)


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0.0 else None


def _move(new: Params, start: Params) -> dict[str, NDArray[np.float32]]:
    """new - start of learned parameters."""
    return {name: value - start[name] for name, value in new.items() if not name.endswith(STATISTICS)}


def _inner(a: Params, b: Params, names: Sequence[str]) -> float:
    # not a BLAS dot: its bits depend on the number of threads
    return sum(float(np.einsum("i,i->", a[name].ravel(), b[name].ravel(), dtype=np.float64)) for name in names)
