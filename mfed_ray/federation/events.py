"""What is told of a run while it goes on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeGuard

from mfed_ray.algorithms.contract import Diagnostics
from mfed_ray.federation.backend import Kind
from mfed_ray.federation.checkpoint import Checkpoint
from mfed_ray.federation.faults import Outcome
from mfed_ray.messages import ClientReport

_NAMED = 5


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` clients have finished a phase of a round."""

    round: int
    phase: Kind
    done: int
    total: int


@dataclass(frozen=True)
class Trained:
    """A round's clients have trained and the server has aggregated. Reports are in the order of the clients.

    Of round 0, the initial models, there are no reports.
    """

    round: int
    reports: Sequence[ClientReport]
    diagnostics: Diagnostics
    seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    is_evaluated: bool
    """Whether ``Evaluated`` follows."""
    notes: Sequence[str] = ()
    """What a reader should know of the initial models and of images that are left out, told with round 0."""


@dataclass(frozen=True)
class Evaluated:
    """The clients were evaluated after a round's aggregation. Reports are in the order of the clients."""

    round: int
    reports: Sequence[ClientReport]
    seconds: float


@dataclass(frozen=True)
class Resumed:
    """A run goes on after a round whose checkpoint is not its last one."""

    round: int
    notes: Sequence[str]
    """Which later checkpoints were passed over, and why."""


@dataclass(frozen=True)
class Waiting:
    """Nothing was heard for some seconds. ``clients``: who runs; empty where no process has taken on a job yet."""

    round: int
    phase: Kind
    clients: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Clients failed in a phase of a round, why, and what was done about it."""

    round: int
    phase: Kind
    clients: tuple[str, ...]
    error: str
    outcome: Outcome


@dataclass(frozen=True)
class Notice:
    """A sentence for whoever looks on: something outside of the rounds happened, or is waited for."""

    text: str


Event = Progress | Resumed | Waiting | Failure | Notice | Trained | Evaluated
"""What is told of a run."""

Absent = Mapping[tuple[Kind, int], Collection[str]]
"""By phase and round: clients that are left out of it without being asked."""

NOBODY: Absent = MappingProxyType({})
"""Nobody is left out of any round."""

Step = Progress | Waiting | Failure | tuple[Trained, Checkpoint] | Evaluated
"""What the loop yields: with each trained round all that the next one starts from."""


def ends_round(event: Event) -> TypeGuard[Trained | Evaluated]:
    """Whether all that is measured of a round is known with the event."""
    return isinstance(event, Evaluated) or (isinstance(event, Trained) and not event.is_evaluated)


def named(clients: Sequence[str]) -> str:
    """Clients for a sentence: the first few, and how many more there are."""
    rest = len(clients) - _NAMED
    return ", ".join(clients[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
