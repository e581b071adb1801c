"""Who has to return in a round, and what happens if somebody does not."""

from collections.abc import Callable

from mfed_ray.errors import ClientError
from mfed_ray.federation.backend import Failed, Late

Policy = Callable[[Failed | Late], None]
"""Called with jobs that did not return. Raises to end the run; returns to go on: without those that failed, and waiting
for those that are late."""


def all_must_return(missing: Failed | Late) -> None:
    """Every client of a round has to return. Raises what a client failed with, ClientError for one that is late."""
    if isinstance(missing, Failed):
        raise missing.error
    names = ", ".join(job.client for job in missing.jobs)
    raise ClientError(f"clients {names} did not return in time; allowed: that all clients of a round return")
