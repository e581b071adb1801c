"""Clients one after the other in this process: for debugging, and the reference that Ray must equal bit for bit."""

from collections import deque
from collections.abc import Mapping, Sequence

from mfed_ray.federation.backend import Done, Failed, Job
from mfed_ray.messages import State
from mfed_ray.runtime.worker import Worker


class SerialBackend:
    """Runs every client in the calling process, a job at each call of ``completed``."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._states: dict[str, State] = {}
        self._waiting: deque[tuple[Job, State]] = deque()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs: evaluations first, which are of an earlier round."""
        new = [(job, self._states.get(job.client, State())) for job in jobs]
        self._waiting = deque(sorted([*self._waiting, *new], key=lambda pair: pair[0].kind == "fit"))

    def completed(self, timeout: float | None = None) -> Done | Failed:
        """Do a job. It is waited for, however long it takes."""
        del timeout
        job, state = self._waiting.popleft()
        outcome = self._worker.run([job], {job.client: state})
        if outcome.errors:
            return Failed((job,), outcome.errors[0])
        return Done((job,), tuple(outcome.reports), tuple(outcome.updates), outcome.means, outcome.states)

    def abandon(self, jobs: Sequence[Job], again: bool = False) -> None:
        """Jobs that wait for their turn have none, or have it all the same: nothing hangs between two of them."""
        if not again:
            gone = {job.turn for job in jobs}
            self._waiting = deque(pair for pair in self._waiting if pair[0].turn not in gone)

    def accept(self, done: Done) -> None:
        """Keep the states of the clients that trained."""
        for job in done.jobs:
            if job.kind == "fit":
                self._states.pop(job.client, None)
        self._states.update(done.states)

    def states(self) -> Mapping[str, State]:
        """The state of every client that keeps anything."""
        return dict(self._states)

    def restore(self, states: Mapping[str, State]) -> None:
        """Take over the clients' states of a checkpoint."""
        self._states = dict(states)
