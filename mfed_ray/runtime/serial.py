"""Clients one after the other in this process: for debugging, and the reference that Ray must equal bit for bit."""

from collections import deque
from collections.abc import Mapping, Sequence

from mfed_ray.federation.backend import Done, Failed, Job
from mfed_ray.messages import State
from mfed_ray.runtime.worker import Worker
from mfed_ray.summation import PartialSum, add


class SerialBackend:
    """Runs every client in the calling process, a job at each call of ``completed``."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._states: dict[str, State] = {}
        self._waiting: deque[tuple[Job, State]] = deque()
        self._sums: dict[str, list[PartialSum]] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on jobs: evaluations first, which are of an earlier round; clients that are added up by their places."""
        new = [(job, self._states.get(job.client, State())) for job in jobs]
        self._waiting = deque(sorted([*self._waiting, *new], key=lambda pair: (pair[0].kind == "fit", pair[0].place)))

    def completed(self, timeout: float | None = None) -> Done | Failed:
        """Do a job. It is waited for, however long it takes. The sums come with the last of the jobs to train."""
        del timeout
        job, state = self._waiting.popleft()
        outcome = self._worker.run([job], {job.client: state})
        for group, nodes in outcome.sums.items():
            for node in nodes:
                self._sums[group] = add(self._sums.get(group, []), node)
        sums: dict[str, list[PartialSum]] = {}
        if not any(other.kind == "fit" for other, _ in self._waiting):
            sums, self._sums = self._sums, {}
        return Done((job,), tuple(outcome.reports), tuple(outcome.updates), sums, outcome.states)

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
