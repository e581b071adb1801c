"""What Ray's errors mean to a run: what was lost, whether it may pass, and in which words it is told."""

from collections.abc import Sequence

import ray.exceptions

from mfed_ray.errors import ClientError, ClientLostError, ClientMemoryError, MfedError
from mfed_ray.federation.backend import Job
from mfed_ray.federation.events import named

FULL = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
"""An object found no room, neither in the store nor on the disk that it spills to."""


def outlives(error: Exception) -> bool:
    """Whether the actor that the error came from is still there to be used."""
    return isinstance(error, ray.exceptions.RayTaskError)


def may_pass(error: Exception) -> bool:
    """Whether another try may end better: all that was not raised by code, which would raise it again."""
    return not isinstance(error, ray.exceptions.RayTaskError) or isinstance(
        error.cause, ray.exceptions.RayError | MemoryError
    )


def told(error: Exception, jobs: Sequence[Job]) -> MfedError:
    """What became of the clients, as the run tells it."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    if isinstance(cause, MfedError):
        return cause
    names = named([job.client for job in jobs])
    who = f"client {names}: its" if len(jobs) == 1 else f"clients {names}: their"
    reason = _first_line(cause)
    if isinstance(cause, ray.exceptions.OutOfMemoryError | MemoryError):
        return ClientMemoryError(
            f"{who} process was ended for want of memory ({reason}); a smaller local.batch_size or fewer actors on a "
            "node (runtime.max_actors, or more runtime.cpus_per_client) need less"
        )
    if isinstance(cause, FULL):
        return no_room(cause)
    if isinstance(cause, ray.exceptions.ObjectLostError):
        return ClientLostError(f"{who} parameters or results were lost with a node ({reason})")
    if isinstance(cause, ray.exceptions.RayError):
        return ClientLostError(f"{who} actor died ({reason})")
    return ClientError(f"{who} process failed: {cause!r}")


def no_room(error: Exception) -> ClientMemoryError:
    """What a store that is full is to the run."""
    return ClientMemoryError(
        f"Ray's object store and the disk that it spills to are full ({_first_line(error)}); start Ray with a larger "
        "--object-store-memory, or free disk space"
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
