"""What the round loop asks of a backend: take on clients' turns, tell what came of them, keep the clients' states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mfed_ray.averages import PartialMean
from mfed_ray.errors import MfedError
from mfed_ray.messages import ClientReport, Instruction, State, Update

Kind = Literal["fit", "evaluate"]
"""What a client's turn is for."""


@dataclass(frozen=True)
class Job:
    """A client's turn: to train under an instruction, or to be evaluated as the instruction would have it start."""

    kind: Kind
    instruction: Instruction
    evaluate: bool = False
    """Whether a client that has trained is evaluated as well, before any aggregation."""
    place: int = 0
    """Of a client that is averaged: its place in the mean of its task group."""
    weight: float | None = None
    """Its weight in that mean; None: what it sends reaches the server as it is."""
    floors: bool = False
    """Whether an evaluation also tells what constant predictions reach."""

    @property
    def client(self) -> str:
        """Name of the client."""
        return self.instruction.client

    @property
    def turn(self) -> tuple[Kind, str]:
        """What tells it from all other jobs that a backend has at a time."""
        return self.kind, self.client


@dataclass(frozen=True)
class Done:
    """Jobs that are finished.

    ``updates``: what the clients that trained send, without parameters where these are in ``means``, by task group.
    ``states``: of these clients that keep anything what that is, in whatever form the backend has it.
    """

    jobs: tuple[Job, ...]
    reports: tuple[ClientReport, ...]
    updates: tuple[Update, ...] = ()
    means: Mapping[str, Sequence[PartialMean]] = field(default_factory=dict)
    states: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Jobs that came to nothing, and why.

    An error that a client's own code raised is that client's alone: the others of the same call are done. Where a
    process or a node was lost, the jobs are all those of the call. They are run again one to a call, so that what ends
    a process for good is one client's.
    """

    jobs: tuple[Job, ...]
    error: MfedError
    again: bool = False
    """Whether the backend runs them again by itself, as long as it has retries left and what happened may pass: a dead
    process, a lost node or object, memory or a store that was full. Never after an error of a client's own code, which
    would come again. If True, the jobs are still to be waited for."""


@dataclass(frozen=True)
class Late:
    """The time was up. Jobs that run meanwhile, which go on; none where no process has taken one on yet."""

    jobs: tuple[Job, ...]


class Backend(Protocol):
    """Runs clients. Results come in any order, several jobs in one; neither changes a bit of them."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs, each with its client's state as it is now."""
        ...

    def completed(self, timeout: float | None = None) -> Done | Failed | Late:
        """Wait for some of the jobs that were taken on, ``timeout`` seconds at most; None: however long it takes.

        A backend that runs jobs in the calling process finishes one, whatever the timeout. Raises MfedError where no
        job can be run any more.
        """
        ...

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        """Stop waiting for jobs that were taken on and are not finished; what hangs in them is ended.

        What they may have come to never arrives. ``again``: they are run anew, with the states that they were submitted
        with. Other jobs of the same calls are run anew in either case, without counting as failed.
        """
        ...

    def accept(self, done: Done) -> None:
        """Keep the states of the clients that trained: a result that nobody accepts leaves no trace."""
        ...

    def states(self) -> Mapping[str, State]:
        """Every client's state, for a checkpoint."""
        ...

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        ...
