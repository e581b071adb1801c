"""Which task groups to fuse, decided from the clients' updates alone: ``correlation_threshold: auto``.

In a round client k of group t moves its encoder from E_t by u_k = g_t + e_k: what the task asks for, and noise of its
own (few images, few steps). A fused encoder moves group t by d_S = sum_s p_s d_s / sum_s p_s, where d_s = Ebar_s - E_t
on the blocks that s and t have alike, d_t elsewhere, and d_t = Ubar_t = sum_k w_k u_k, w_k = n_k / N_t. What the group
gains is how far that points where the task wants to go, not how long it is:

    A_t(S) = <d_S, g_t> / ||d_S||

Neither g_t nor the noise is known, yet every inner product with g_t has an estimate without bias, because noises of
different clients are independent:

    <d_s, g_t> ~ <d_s, Ubar_t>   for s other than t
    <d_t, g_t> ~ (||Ubar_t||^2 - sum_k w_k^2 ||u_k||^2) / (1 - sum_k w_k^2)      the clients' agreement within t

Both are divided by ||d_s|| ||Ubar_t||, so that rounds count alike, and averaged over rounds. The agreement within one
group is mostly noise where its clients are few. So it is turned into the cosine of two clients, rho (with m = 1 / sum_k
w_k^2 clients the share of ||Ubar_t||^2 is m rho / (1 + (m - 1) rho): Spearman and Brown, 1910), which is averaged over
the groups with two clients or more, and turned back for each group.

The rule: S_t starts as {t}; the group that raises A_t most joins, until none does. For two groups with updates of one
length and little agreement, s joins t where the agreement between is above sqrt(2) - 1 = 0.41 of that within.

Cost: no byte on top of the updates; on the server up to T^2 / 2 inner products of encoders for each of T groups.

Where it fails: without any group of two clients there is no measure of noise (refused); with few clients the first
rounds decide on little evidence; it sees updates only, so not that a task helps another later or by other ways; groups
that went apart seldom come together again, because the distance of their encoders drowns their updates.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.fusion import Shares, common_names
from mfed_ray.messages import Params, Update
from mfed_ray.params import STATISTICS, difference, encoder_of

Evidence = dict[tuple[str, str], float]
"""By (s, t): cosine of d_s and Ubar_t; on the diagonal rho, alike for all groups."""

Gram = Mapping[tuple[str, str, str], float]
"""By (t, r, s): inner product of the displacements d_r and d_s of group t."""


def displacements(means: Mapping[str, Params], starts: Mapping[str, Params]) -> Gram:
    """Inner products of what every group's mean encoder would move every group by."""
    gram: dict[tuple[str, str, str], float] = {}
    for t, start in starts.items():
        own = difference(means[t], start)
        moves = {s: _moved(own, means[s], start) for s in means}
        for r, s in product(moves, moves):
            gram[t, r, s] = gram[t, s, r] if (t, s, r) in gram else inner(moves[r], moves[s])
    return gram


def _moved(own: Params, mean: Params, start: Params) -> dict[str, NDArray[np.float32]]:
    alike = common_names(start, mean)
    return {name: mean[name] - start[name] if name in alike else value for name, value in own.items()}


def inner(a: Params, b: Params) -> float:
    """Inner product over learned parameters."""
    # not a BLAS dot: its bits depend on the number of threads
    learned = [name for name in a if not name.endswith(STATISTICS)]
    return float(sum(np.einsum("i,i->", a[n].ravel(), b[n].ravel(), dtype=np.float64) for n in learned))


def measure(gram: Gram, groups: Mapping[str, Sequence[Update]], starts: Mapping[str, Params]) -> Evidence:
    """This round's evidence. Nothing on the diagonal where no group has two clients in the round."""
    norm = {(t, s): np.sqrt(gram[t, s, s]) for t in groups for s in groups}
    found: Evidence = {}
    for s, t in product(groups, groups):
        if s != t:
            found[s, t] = _ratio(gram[t, s, t], norm[t, s] * norm[t, t])
    between = [_between(members, starts[t], gram[t, t, t]) for t, members in groups.items() if len(members) > 1]
    if between:
        found |= {(t, t): float(np.mean(between)) for t in groups}
    return found


def _between(members: Sequence[Update], start: Params, squared: float) -> float:
    """rho of one group, from the share of ||Ubar_t||^2 that its clients agree on."""
    moves = [difference(encoder_of(update.params), start) for update in members]
    squares = [share**2 for share in _shares(members)]
    own = sum(square * inner(move, move) for square, move in zip(squares, moves, strict=True))
    share, count = _ratio(squared - own, squared * (1.0 - sum(squares))), 1.0 / sum(squares)
    return share / (count - (count - 1.0) * share)


def within(members: Sequence[Update], rho: float) -> float:
    """Share of ||Ubar_t||^2 that the clients of a group agree on, if any two of them have the cosine rho."""
    count, rho = 1.0 / sum(share**2 for share in _shares(members)), max(rho, 0.0)
    return count * rho / (1.0 + (count - 1.0) * rho)


def _shares(members: Sequence[Update]) -> list[float]:
    total = float(sum(update.examples for update in members))
    return [update.examples / total for update in members]


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0.0 else 0.0


def agreed(
    encoders: Mapping[str, Params],
    gram: Gram,
    evidence: Evidence,
    groups: Mapping[str, Sequence[Update]],
    weights: Mapping[str, float],
) -> Shares:
    """S_t of each group t, and how strongly each of it agrees with t, as a share of the agreement within t."""
    found: dict[str, dict[str, float]] = {}
    for t, own in encoders.items():
        eligible = [s for s in encoders if common_names(encoders[s], own)]
        towards = {s: evidence[s, t] for s in eligible if s != t} | {t: within(groups[t], evidence.get((t, t), 0.0))}
        members = partners(t, gram, towards, weights)
        found[t] = {s: 1.0 if s == t else min(max(towards[s] / towards[t], 0.0), 1.0) for s in members}
    return found


def partners(group: str, gram: Gram, towards: Mapping[str, float], weights: Mapping[str, float]) -> tuple[str, ...]:
    """S_t of a group by the rule above; itself alone where its own clients do not agree on anything.

    ``towards``: cosine of d_s and g_t, but for the length of g_t, which all have in common, by eligible group s.
    """

    def gain(members: Sequence[str]) -> float:
        reach = sum(weights[s] * towards[s] * np.sqrt(gram[group, s, s]) for s in members)
        length = np.sqrt(max(sum(weights[r] * weights[s] * gram[group, r, s] for r in members for s in members), 0.0))
        return _ratio(float(reach), float(length))

    chosen = [group]
    while towards[group] > 0.0 and (others := [s for s in towards if s not in chosen]):
        best = max(others, key=lambda s: gain([*chosen, s]))
        if gain([*chosen, best]) <= gain(chosen):
            break
        chosen.append(best)
    return tuple(s for s in weights if s in chosen)
