"""How many clients an actor is given at a time."""

import heapq
from collections.abc import Mapping, Sequence

from mfed_ray.federation.backend import Job

LEAST_SECONDS = 0.05
"""A call costs some milliseconds beside its clients' work: with less than this at a time they would be felt."""
NEAR = 1.05
"""An end so much later at most is worth the fewest calls."""


def chunks(jobs: Sequence[Job], seconds: Mapping[str, float], actors: int) -> list[tuple[Job, ...]]:
    """The jobs in their order, cut into what an actor is given at a time.

    ``seconds``: what clients took last. Where that is known and the clients can be shared out evenly, each actor gets
    one chunk: fewest calls, and fewest means to send. Else chunks of falling size, each half of an actor's share of
    what is left, so that the actors end at about the same time whatever the clients take (guided self-scheduling:
    Polychronopoulos and Kuck, IEEE Transactions on Computers 36, 1987). A client that nobody knows counts as the mean
    of the others.
    """
    known = [seconds[job.client] for job in jobs if job.client in seconds]
    usual = sum(known) / len(known) if known else 1.0
    costs = [seconds.get(job.client, usual) for job in jobs]
    sizes = _guided(costs, actors, LEAST_SECONDS if known else 0.0)
    if known:
        even = _even(costs, actors)
        sizes = even if _end(costs, even, actors) <= NEAR * _end(costs, sizes, actors) else sizes
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [tuple(jobs[start : start + size]) for start, size in zip(starts, sizes, strict=True)]


def _even(costs: Sequence[float], actors: int) -> list[int]:
    """Sizes of one chunk for each actor, as even as neighbours can be."""
    sizes: list[int] = []
    for number in range(actors):
        rest = costs[sum(sizes) :]
        goal = sum(rest) / (actors - number)
        sizes.append(_fitting(rest, goal) if number < actors - 1 else len(rest))
    return [size for size in sizes if size]


def _guided(costs: Sequence[float], actors: int, least: float) -> list[int]:
    """Sizes of chunks that take half of an actor's share of what is left, ``least`` seconds where there are so many."""
    sizes: list[int] = []
    least = min(least, sum(costs) / actors)
    while rest := costs[sum(sizes) :]:
        sizes.append(_fitting(rest, max(sum(rest) / (2 * actors), least)))
    return sizes


def _fitting(costs: Sequence[float], goal: float) -> int:
    """How many of the first come nearest to the goal, one at the least."""
    size, taken = 1, costs[0] if costs else 0.0
    while size < len(costs) and taken + costs[size] / 2 <= goal:
        taken += costs[size]
        size += 1
    return min(size, len(costs))


def _end(costs: Sequence[float], sizes: Sequence[int], actors: int) -> float:
    """When the last actor ends, if each takes the next chunk as soon as it is free."""
    ends, start = [0.0] * actors, 0
    for size in sizes:
        heapq.heappush(ends, heapq.heappop(ends) + sum(costs[start : start + size]))
        start += size
    return max(ends)
