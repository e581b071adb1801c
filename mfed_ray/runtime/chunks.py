"""How many clients an actor is given at a time."""

from collections.abc import Mapping, Sequence

from mfed_ray.federation.backend import Job

LEAST_SECONDS = 0.05
"""What a call costs beside its clients' work is a few milliseconds: less than this at a time would be felt."""


def chunks(jobs: Sequence[Job], seconds: Mapping[str, float], actors: int) -> list[tuple[Job, ...]]:
    """The jobs in their order, cut into chunks of falling size: each takes half of an actor's share of what is left.

    So few calls are made, and the actors finish at about the same time (guided self-scheduling: Polychronopoulos and
    Kuck, IEEE Transactions on Computers 36, 1987). ``seconds``: what clients took last; where nobody knows, all take
    the same.
    """
    known = [seconds[job.client] for job in jobs if job.client in seconds]
    usual = sum(known) / len(known) if known else None
    costs = [seconds.get(job.client, usual if usual is not None else 1.0) for job in jobs]
    least = LEAST_SECONDS if usual is not None else 0.0
    total = left = sum(costs)
    cut: list[tuple[Job, ...]] = []
    start = 0
    while start < len(jobs):
        goal = max(left / (2 * actors), min(least, total / actors))
        end, taken = start + 1, costs[start]
        while end < len(jobs) and taken + costs[end] <= goal:
            taken += costs[end]
            end += 1
        cut.append(tuple(jobs[start:end]))
        start, left = end, left - taken
    return cut
