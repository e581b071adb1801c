"""Clients one after the other in this process: for debugging, and the reference that Ray must equal bit for bit."""

from collections.abc import Iterator, Mapping, Sequence

from mfed_ray.federation.backend import Fitted
from mfed_ray.messages import ClientReport, Instruction, State
from mfed_ray.runtime.worker import Worker


class SerialBackend:
    """Runs every client in the calling process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._states: dict[str, State] = {}

    def fit(self, instructions: Sequence[Instruction], *, evaluate: bool) -> Iterator[Fitted]:
        """Train the clients in the order given."""
        for instruction in instructions:
            state = self._states.get(instruction.client, State())
            fitted, self._states[instruction.client] = self._worker.fit(instruction, state, evaluate=evaluate)
            yield fitted

    def evaluate(self, instructions: Sequence[Instruction]) -> Iterator[ClientReport]:
        """Evaluate the clients in the order given."""
        for instruction in instructions:
            yield self._worker.evaluate(instruction, self._states.get(instruction.client, State()))

    def states(self) -> Mapping[str, State]:
        """Every client's state."""
        return dict(self._states)

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        self._states = dict(states)
