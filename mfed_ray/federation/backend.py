"""What every backend does: run instructions on clients, and keep the clients' states."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mfed_ray.messages import ClientReport, Instruction, State, Update


@dataclass(frozen=True)
class Fitted:
    """One client's finished training."""

    update: Update
    report: ClientReport


class Backend(Protocol):
    """Runs clients. Results are yielded as they come; which order that is changes nothing in them."""

    def fit(self, instructions: Sequence[Instruction], *, evaluate: bool) -> Iterator[Fitted]:
        """Train each client; with ``evaluate``, its trained model is also evaluated, before any aggregation."""
        ...

    def evaluate(self, instructions: Sequence[Instruction]) -> Iterator[ClientReport]:
        """Evaluate each client's model as the next round would start with it."""
        ...

    def states(self) -> Mapping[str, State]:
        """Every client's state, for a checkpoint."""
        ...

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        ...
