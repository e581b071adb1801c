"""Has a backend run the phases of a round to their ends, whatever happens to clients meanwhile."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from mfed_ray.errors import ClientError, ClientLostError, MfedError
from mfed_ray.federation.backend import Backend, Done, Job, Kind, Late
from mfed_ray.federation.events import Evaluated, Failure, Progress, Waiting, named
from mfed_ray.federation.faults import Clock, Faults, Outcome
from mfed_ray.federation.phase import Phase


@dataclass(frozen=True)
class Gathering:
    """``tasks``: of every client, by name. ``max_retries``: how often clients that are late are run again."""

    backend: Backend
    faults: Faults
    max_retries: int
    tasks: Mapping[str, tuple[str, ...]]

    def finish(self, phases: Sequence[Phase]) -> Generator[Progress | Waiting | Failure | Evaluated, None, None]:
        """Run phases of different kinds at the same time. Raises what a client failed with where that ends the run."""
        asked = [phase for phase in phases if phase.jobs]
        for phase in asked:
            phase.begin()
            self.backend.submit(phase.jobs)
        clock = Clock(self.faults.round_deadline)
        while running := {phase.kind: phase for phase in asked if not phase.is_over}:
            result = self.backend.completed(clock.patience)
            if not isinstance(result, Late):
                clock.hear()
                phase = running[result.jobs[0].kind]
                if isinstance(result, Done):
                    yield self._taken(phase, result)
                else:
                    yield from self._failed(phase, result.jobs, result.error, self.faults.outcome(result.again))
            elif clock.is_over and result.jobs:  # and nothing is there that was finished in time
                yield from self._end_late(running, clock)
            else:
                if not result.jobs:
                    clock.hold()
                yield _waiting(result, running, clock.silence)
            for phase in running.values():
                if phase.kind == "evaluate" and phase.is_over:
                    yield Evaluated(phase.round, phase.in_order(), phase.seconds)

    def _taken(self, phase: Phase, done: Done) -> Progress:
        self.backend.accept(done)
        phase.take(done)
        return Progress(phase.round, phase.kind, len(phase.in_order()), len(phase.clients))

    def _end_late(self, running: Mapping[Kind, Phase], clock: Clock) -> Generator[Failure, None, None]:
        """The deadline has passed: who is not finished has another try, is dropped, or ends the run."""
        outcome = self.faults.outcome_of_late(clock.attempts, self.max_retries)
        for phase in running.values():
            if late := phase.open_jobs:
                self.backend.abandon(late, again=outcome == "retried")
                error = ClientLostError(
                    f"{named(phase.concerned(late))}: not finished within faults.round_deadline, "
                    f"{self.faults.round_deadline:g} s"
                )
                yield from self._failed(phase, late, error, outcome)
        clock.restart()

    def _failed(
        self, phase: Phase, jobs: Sequence[Job], error: MfedError, outcome: Outcome
    ) -> Generator[Failure, None, None]:
        clients = phase.concerned(jobs)
        if outcome == "dropped" and phase.kind == "fit" and (few := self._too_few(phase, clients)):
            kind = ClientLostError if error.may_pass else ClientError
            outcome, error = "stopped", kind(f"{few}; the last failure: {error}")
        yield Failure(phase.round, phase.kind, clients, str(error), outcome)
        if outcome == "stopped":
            raise error
        if outcome == "dropped":
            phase.drop(jobs)

    def _too_few(self, phase: Phase, gone: Sequence[str]) -> str:
        """Which task would have too few clients left to train, in words; empty where none has."""
        left = Counter(task for client in phase.clients if client not in gone for task in self.tasks[client])
        least = self.faults.min_clients_per_task
        for task in sorted({task for client in gone for task in self.tasks[client]}):
            if left[task] < least:
                return (
                    f"round {phase.round}: {phase.kind}: clients left of {task}: {left[task]}; allowed by "
                    f"faults.min_clients_per_task: {least} at least"
                )
        return ""


def _waiting(late: Late, running: Mapping[Kind, Phase], seconds: float) -> Waiting:
    kind = late.jobs[0].kind if late.jobs else next(iter(running))
    clients = tuple(job.client for job in late.jobs if job.kind == kind)
    return Waiting(running[kind].round, kind, clients, seconds)
