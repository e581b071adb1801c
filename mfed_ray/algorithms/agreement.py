"""Which task groups to fuse, decided from the clients' updates alone: ``correlation_threshold: auto``.

In a round client k of group t moves its encoder from E_t by u_k = g_t + e_k: what the task asks for, and noise of its
own (few images, few steps). A fused encoder moves group t by d_S = sum_s p_s d_s / sum_s p_s, where d_s = Ebar_s - E_t
and d_t = Ubar_t = sum_k w_k u_k with the weights w_k of the clients' mean. What the group gains is how far that points
where the task wants to go, not how long it is:

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

Where encoders differ, all of this is about the blocks that every candidate has as t has them: what d_S says is what
fusing does there.

Cost: up, a number per parameter tensor and client on top of the updates; on the server up to T^2 / 2 inner products of
encoders for each of T groups.

Where it fails: without any task of two clients there is no measure of noise (refused; with cohorts, nothing is fused
before the first round in which a task has two clients); with few clients the first rounds decide on little evidence; it
sees updates only, so not that a task helps another later or by other ways; groups that went apart seldom come together
again, because the distance of their encoders drowns their updates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from mfed_ray.algorithms.fusion import Shares, common_names
from mfed_ray.messages import Params
from mfed_ray.params import STATISTICS, difference

Evidence = dict[tuple[str, str], float]
"""By (s, t): cosine of d_s and Ubar_t."""

Clients = Sequence[tuple[float, Mapping[str, float]]]
"""A group's clients in the round: their weights in its mean, and ||u_k||^2 by parameter (``squared_lengths``)."""


@dataclass(frozen=True)
class View:
    """A round as group t sees it, on the blocks that it shares with all ``groups``, itself among them.

    ``gram``: <d_r, d_s>. ``noise``: sum_k w_k^2 ||u_k||^2. ``clients``: m.
    """

    groups: tuple[str, ...]
    gram: Mapping[tuple[str, str], float]
    noise: float
    clients: float


def view(encoders: Mapping[str, Params], start: Params, clients: Clients) -> View:
    """What the groups' mean encoders would move a group by that began at ``start``, and how noisy its clients are."""
    alike = {s: common_names(start, encoder) for s, encoder in encoders.items()}
    groups = tuple(s for s in encoders if alike[s])
    shared = frozenset.intersection(*(alike[s] for s in groups))
    learned = [name for name in start if name in shared and not name.endswith(STATISTICS)]
    origin = {name: start[name] for name in learned}
    moves = {s: difference({name: encoders[s][name] for name in learned}, origin) for s in groups}
    gram: dict[tuple[str, str], float] = {}
    for r, s in combinations_with_replacement(groups, 2):
        gram[r, s] = gram[s, r] = _inner(moves[r], moves[s])
    total = sum(weight for weight, _ in clients)
    squares = [(weight / total) ** 2 for weight, _ in clients]
    lengths = (sum(lengths[name] for name in learned) for _, lengths in clients)
    noise = sum(square * length for square, length in zip(squares, lengths, strict=True))
    return View(groups, gram, noise, 1.0 / sum(squares))


def squared_lengths(encoder: Params, start: Params) -> dict[str, float]:
    """||u_k||^2 by learned parameter, of a client's encoder that began the round at ``start``.

    It is all that the rule needs of a single client, so that no encoder but the clients' mean has to reach the server.
    """
    learned = {name: value for name, value in encoder.items() if not name.endswith(STATISTICS)}
    return {name: _product(move, move) for name, move in difference(learned, start).items()}


def _inner(a: Params, b: Params) -> float:
    return sum(_product(a[name], b[name]) for name in a)


def _product(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    # not a BLAS dot: its bits depend on the number of threads
    return float(np.einsum("i,i->", a.ravel(), b.ravel(), dtype=np.float64))


def measure(views: Mapping[str, View]) -> tuple[Evidence, float | None]:
    """This round's evidence, and its rho: None where no group has two clients."""
    found = {
        (s, t): _ratio(one.gram[s, t], float(np.sqrt(one.gram[s, s] * one.gram[t, t])))
        for t, one in views.items()
        for s in one.groups
        if s != t
    }
    rho = [_of_two(one, one.gram[t, t]) for t, one in views.items() if one.clients > 1.0]
    return found, float(np.mean(rho)) if rho else None


def _of_two(one: View, squared: float) -> float:
    """rho of one group, from the share of ||Ubar_t||^2 that its clients agree on."""
    share = _ratio(squared - one.noise, squared * (1.0 - 1.0 / one.clients))
    return share / (one.clients - (one.clients - 1.0) * share)


def within(clients: float, rho: float) -> float:
    """Share of ||Ubar_t||^2 that the clients of a group agree on, if any two of them have the cosine rho."""
    known = max(rho, 0.0)
    return clients * known / (1.0 + (clients - 1.0) * known)


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0.0 else 0.0


def agreed(views: Mapping[str, View], evidence: Evidence, rho: float, weights: Mapping[str, float]) -> Shares:
    """S_t of each group t, and how strongly each of it agrees with t, as a share of the agreement within t."""
    found: dict[str, dict[str, float]] = {}
    for t, one in views.items():
        towards = {s: within(one.clients, rho) if s == t else evidence[s, t] for s in one.groups}
        members = partners(t, one.gram, towards, weights)
        found[t] = {s: 1.0 if s == t else min(max(towards[s] / towards[t], 0.0), 1.0) for s in members}
    return found


def partners(
    group: str, gram: Mapping[tuple[str, str], float], towards: Mapping[str, float], weights: Mapping[str, float]
) -> tuple[str, ...]:
    """S_t of a group by the rule above; itself alone where its own clients do not agree on anything.

    ``towards``: cosine of d_s and g_t, but for the length of g_t, which all have in common, by candidate s.
    """

    def gain(members: Sequence[str]) -> float:
        reach = sum(weights[s] * towards[s] * np.sqrt(gram[s, s]) for s in members)
        length = np.sqrt(max(sum(weights[r] * weights[s] * gram[r, s] for r in members for s in members), 0.0))
        return _ratio(float(reach), float(length))

    chosen = [group]
    while towards[group] > 0.0 and (others := [s for s in towards if s not in chosen]):
        best = max(others, key=lambda s: gain([*chosen, s]))
        if gain([*chosen, best]) <= gain(chosen):
            break
        chosen.append(best)
    return tuple(s for s in weights if s in chosen)
